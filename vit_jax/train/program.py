"""What a run compiles: everything of it that needs neither data nor devices that are here."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from vit_jax import parallel
from vit_jax.errors import BadSetting
from vit_jax.evaluate import check_patches, outputs
from vit_jax.models import Model
from vit_jax.train.facts import DataFacts
from vit_jax.train.mixing import mixed
from vit_jax.train.multipliers import Multipliers, learning_rate_multipliers
from vit_jax.train.objectives import Objective, masked_patches, supervised
from vit_jax.train.optimizer import make_optimizer
from vit_jax.train.schedule import make_schedule
from vit_jax.train.settings import RunSettings
from vit_jax.train.spans import in_steps
from vit_jax.train.state import State, laid_out, state_shapes
from vit_jax.train.step import TrainStep, make_train_step


@dataclasses.dataclass(frozen=True)
class Steps:
    """The run's durations in optimizer steps; 0 means never."""

    total: int
    log: int
    checkpoint: int
    keep: int


@dataclasses.dataclass(frozen=True)
class Program:
    """A run's model, optimizer and state on a mesh; nothing is compiled or allocated yet.

    Attributes:
      settings: of the run.
      facts: of its data.
      mesh: of its devices, which may only be described.
      model: what is trained.
      optimizer: gradient to update.
      multipliers: of the learning rate.
      schedule: learning rate by step.
      steps: durations.
      state: shapes, dtypes and shardings.
    """

    settings: RunSettings
    facts: DataFacts
    mesh: Mesh
    model: Model
    optimizer: optax.GradientTransformationExtraArgs
    multipliers: Multipliers
    schedule: optax.Schedule
    steps: Steps
    state: State

    def objective(self, model: Model) -> Objective:
        """What is minimised, of the run's model or of another form of it."""
        train = self.settings.train
        if train.objective == "masked_patches":
            return masked_patches(model, self.settings.masked)
        return mixed(supervised(model, train.loss, train.label_smoothing), train, model.classes)

    def train_step(self) -> TrainStep:
        """One optimizer step, to be compiled when it is first called."""
        train, model = self.settings.train, self.model
        once = train.micro_batches > 1 and model.settings.resolved.trunk is not None
        return make_train_step(
            self.objective(dataclasses.replace(model, standardized=True) if once else model),
            self.optimizer,
            self.schedule,
            self.state,
            self.mesh,
            self.multipliers,
            seed=self.settings.seed,
            micro_batches=train.micro_batches,
            ema_decay=train.ema_decay,
            prepare=model.standardize if once else None,
            options=self.settings.compiler.resolved(),
        )

    def whole(self) -> list[str]:
        """A line if the mesh was asked to split dimensions that it does not divide."""
        found = parallel.undivided(self.model.shapes, self.model.logical_axes, self.mesh)
        return [f"whole     {'; '.join(found)}"] if found else []

    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, dtypes and shardings of a batch."""
        about, size = self.settings.data, self.settings.train.batch_size
        sharding = parallel.batch_sharding(self.mesh)
        label, dtype = ((size, self.facts.classes), jnp.float32) if self.facts.multi_label else ((size,), jnp.int32)
        return {
            "image": jax.ShapeDtypeStruct((size, *about.height_width, about.channels), jnp.uint8, sharding=sharding),
            "label": jax.ShapeDtypeStruct(label, dtype, sharding=sharding),
        }


def make_program(settings: RunSettings, facts: DataFacts, devices: Sequence[Any] | None = None) -> Program:
    """Resolves what a run compiles.

    Args:
      settings: of the run.
      facts: of its data.
      devices: by default all of the job; described ones do (see `parallel.topology_devices`).

    Raises:
      BadSetting, UserError: one line that names the field, the value and the fix.
    """
    check_mesh(settings, devices)
    if facts.multi_label and settings.train.objective == "supervised" and settings.train.loss == "softmax":
        fix = f"images of {settings.data.name} have several labels: set config.train.loss=sigmoid"
        raise BadSetting("config.train.loss", settings.train.loss, fix)
    model = make_model(settings, facts.classes)
    steps, schedule = _durations(settings, facts.examples)
    optimizer = make_optimizer(settings.optimizer, list(model.shapes))
    multipliers = learning_rate_multipliers(settings.optimizer, model)
    shapes = state_shapes(model, optimizer, ema=settings.train.ema_decay > 0)

    mesh = parallel.automatic_mesh(settings.mesh, bytes_by_mesh(shapes, model), devices)
    state = laid_out(shapes, model, mesh)
    return Program(settings, facts, mesh, model, optimizer, multipliers, schedule, steps, state)


def bytes_by_mesh(shapes: State, model: Model) -> parallel.StateBytes:
    """What parameters, gradients, optimizer state and average take on one device, as a function of the mesh."""

    def on(mesh: AbstractMesh) -> int:
        state = laid_out(shapes, model, mesh)
        gradients = parallel.bytes_per_device(state["params"])[0]
        return parallel.bytes_per_device(state)[0] + gradients

    return on


def check_mesh(settings: RunSettings, devices: Sequence[Any] | None = None) -> None:
    """Whether the mesh fits the devices and divides the batches; how much of it is fsdp does not matter for that.

    Raises:
      BadSetting: it does not.
    """
    try:
        mesh = parallel.make_mesh(settings.mesh, devices)
    except BadSetting as error:
        raise error.below("config") from None
    train = settings.train
    parallel.check_batch("config.train.batch_size", train.batch_size, mesh, train.micro_batches)
    if settings.evaluate.batch_size:
        parallel.check_batch("config.evaluate.batch_size", settings.evaluate.batch_size, mesh)


def make_model(settings: RunSettings, classes: int) -> Model:
    """The configured model, with the outputs that the objective needs.

    Args:
      settings: of the run.
      classes: of the data set.

    Raises:
      BadSetting: it does not fit the images or the objective.
    """
    masked = settings.train.objective == "masked_patches"
    if masked != (settings.model.pooling == "none"):
        fix = (
            "needs one output a patch: set none"
            if masked
            else "needs one output an image: set token, gap, map or first"
        )
        raise BadSetting("config.model.pool", settings.model.pool, f"{settings.train.objective} {fix}")
    if masked and not settings.model.mask_token:
        raise BadSetting("config.model.mask_token", False, "masked_patches puts it in place of patches: set True")
    channels = settings.data.channels
    try:
        model = Model(settings.model, settings.data.height_width, channels, classes)
    except BadSetting as error:
        raise error.below("config.data") from None
    if masked:
        check_patches(settings.masked, model)
        model = dataclasses.replace(model, classes=outputs(settings.masked, model.stride, channels))
    return model


def _durations(settings: RunSettings, examples: int) -> tuple[Steps, optax.Schedule]:
    total = in_steps(settings, settings.train.duration, "config.train.duration", examples, None)
    if not total:
        raise BadSetting("config.train.duration", settings.train.duration, "a run needs at least one step")

    def part(group: str, name: str) -> int:
        return in_steps(settings, getattr(getattr(settings, group), name), f"config.{group}.{name}", examples, total)

    warmup, timescale, cooldown = (part("schedule", name) for name in ("warmup", "timescale", "cooldown"))
    field = "config.schedule.boundaries"
    boundaries = [in_steps(settings, text, field, examples, total) for text in settings.schedule.boundaries]
    schedule = make_schedule(settings.schedule, total, warmup, timescale, cooldown, boundaries)
    keep = part("checkpoint", "keep_every")
    return Steps(total, log=part("log", "every"), checkpoint=part("checkpoint", "every"), keep=keep), schedule
