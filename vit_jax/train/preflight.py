"""Everything a run needs, checked before anything expensive: devices, data, splits, shapes, durations, rules."""

import dataclasses
import math

import optax
from jax.sharding import Mesh

from vit_jax import data, parallel
from vit_jax.checkpoint import Metadata, Report
from vit_jax.data import Dataset
from vit_jax.errors import BadSetting
from vit_jax.evaluate import check_patches, outputs
from vit_jax.models import Model, Params
from vit_jax.rules import assign, describe
from vit_jax.settings import to_dict
from vit_jax.train.evaluations import Evaluation, class_names, open_evaluations, open_split
from vit_jax.train.initial import initial_params
from vit_jax.train.multipliers import Multipliers, frozen, learning_rate_multipliers
from vit_jax.train.optimizer import make_optimizer
from vit_jax.train.schedule import make_schedule
from vit_jax.train.settings import RunSettings
from vit_jax.train.spans import in_steps
from vit_jax.train.state import State, abstract_state


@dataclasses.dataclass(frozen=True)
class Steps:
    """The run's durations in optimizer steps; 0 means never."""

    total: int
    log: int
    checkpoint: int
    keep: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that is known to fit together; nothing is compiled or allocated yet."""

    settings: RunSettings
    mesh: Mesh
    train_data: Dataset
    model: Model
    evaluations: dict[str, Evaluation]
    optimizer: optax.GradientTransformationExtraArgs
    multipliers: Multipliers
    schedule: optax.Schedule
    steps: Steps
    state: State

    def metadata(self, step: int) -> Metadata:
        """What a checkpoint at `step` says."""
        settings = self.settings
        position = {
            "seed": settings.seed,
            "next_batch": step,
            "batch_size": settings.train.batch_size,
            "train_examples": self.train_data.size,
        }
        return Metadata(self.model, class_names(settings, self.train_data), to_dict(settings), step, position)

    def describe(self) -> list[str]:
        """What a person wants to see before the run starts."""
        settings, model = self.settings, self.model
        local, copied = parallel.bytes_per_device(self.state)
        split = self.mesh.shape["fsdp"] * self.mesh.shape["tensor"] > 1
        shared = f", {copied / local:.0%} of it copied to every device" if split else ""
        decay = assign(list(model.shapes), settings.optimizer.weight_decay_rules, "weight decay")
        batch = f"batch {settings.train.batch_size}"
        if settings.train.micro_batches > 1:
            batch += f" in {settings.train.micro_batches} micro-batches"
        epochs = self.steps.total * settings.train.batch_size / self.train_data.size
        lines = [
            f"devices   {parallel.describe_mesh(self.mesh)}",
            f"model     {settings.model.variant}, {model.parameter_count:,} parameters, "
            f"{model.image_size[0]}x{model.image_size[1]} px, {settings.model.dtype}",
            *_unseen(model),
            f"state     {local / 2**20:,.1f} MiB per device{shared}",
            f"data      {settings.data.name} [{settings.data.train_split}], {self.train_data.size:,} images, "
            f"{_outputs(self)}",
            f"run       {self.steps.total:,} steps, {epochs:.1f} epochs, {batch}",
        ]
        if settings.optimizer.weight_decay:
            lines.append(f"decay     {settings.optimizer.weight_decay:g} x: {describe(decay)}")
        unchanging = frozen(self.multipliers)
        if unchanging:
            size = sum(math.prod(model.shapes[name]) for name in unchanging)
            lines.append(f"frozen    {len(unchanging)} parameters, {size:,} of {model.parameter_count:,} numbers")
        return lines

    def initial(self) -> tuple[Params, Report] | None:
        """The weights that `config.init` names, on the host; None for fresh values.

        Raises:
          BadSetting, UserError: they cannot be loaded, or do not fit the model.
        """
        if not self.settings.init.checkpoint:
            return None
        names = class_names(self.settings, self.train_data)
        return initial_params(self.settings.init, self.model, names, self.settings.seed)


def preflight(settings: RunSettings) -> Plan:
    """Checks the whole run and resolves it.

    Raises:
      BadSetting, UserError: one line that names the field, the value and the fix.
    """
    if settings.init.checkpoint.startswith("<"):  # what configs say where only a person knows
        fix = "name the weights to start from, or leave it empty to start from fresh values"
        raise BadSetting("config.init.checkpoint", settings.init.checkpoint, fix)
    mesh = _mesh(settings)
    train_data = _training_data(settings)
    data.check_preprocess(settings.data)
    model = make_model(settings, len(train_data.label_names))
    steps, schedule = _durations(settings, train_data.size)
    optimizer = make_optimizer(settings.optimizer, list(model.shapes))
    multipliers = learning_rate_multipliers(settings.optimizer, model)
    state = abstract_state(model, optimizer, mesh, ema=settings.train.ema_decay > 0)
    evaluations = open_evaluations(settings, model, mesh, train_data, state["params"], steps.total)
    return Plan(settings, mesh, train_data, model, evaluations, optimizer, multipliers, schedule, steps, state)


def _training_data(settings: RunSettings) -> Dataset:
    if not settings.data.train_split:
        raise BadSetting("config.data.task", settings.data.task, "has no training images; train on another")
    found = open_split(settings, settings.data.train_split, "config.data.train_split")
    if found.multi_label and settings.train.objective == "supervised" and settings.train.loss == "softmax":
        fix = f"images of {settings.data.name} have several labels: set config.train.loss=sigmoid"
        raise BadSetting("config.train.loss", settings.train.loss, fix)
    return found


def _mesh(settings: RunSettings) -> Mesh:
    try:
        mesh = parallel.make_mesh(settings.mesh)
    except BadSetting as error:
        raise error.below("config") from None
    train = settings.train
    parallel.check_batch("config.train.batch_size", train.batch_size, mesh, train.micro_batches)
    if settings.evaluate.batch_size:
        parallel.check_batch("config.evaluate.batch_size", settings.evaluate.batch_size, mesh)
    return mesh


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


def _outputs(plan: Plan) -> str:
    """What the model answers, for the line about the data."""
    if plan.settings.train.objective == "supervised":
        return f"{plan.model.classes:,} classes"
    return f"{plan.settings.masked.target} of masked patches, labels unused"


def _unseen(model: Model) -> list[str]:
    """A line if the patches do not cover the images."""
    rows, columns = model.unseen_pixels
    if not rows and not columns:
        return []
    return [f"note      {rows} rows and {columns} columns of every image lie beyond the last whole patch, unseen"]


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
