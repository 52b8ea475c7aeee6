"""Everything a run needs, checked before anything expensive: devices, data, splits, shapes, durations, rules."""

import dataclasses
import math

import optax
from jax.sharding import Mesh

from vit_jax import data, parallel
from vit_jax.checkpoint import Metadata, Report
from vit_jax.data import Dataset
from vit_jax.durations import Duration
from vit_jax.errors import BadSetting
from vit_jax.models import Model, Params
from vit_jax.rules import assign, describe
from vit_jax.settings import to_dict
from vit_jax.train.initial import initial_params
from vit_jax.train.multipliers import Multipliers, frozen, learning_rate_multipliers
from vit_jax.train.optimizer import make_optimizer
from vit_jax.train.schedule import make_schedule
from vit_jax.train.settings import RunSettings
from vit_jax.train.state import State, abstract_state


@dataclasses.dataclass(frozen=True)
class Steps:
    """The run's durations in optimizer steps; 0 means never."""

    total: int
    log: int
    evaluate: int
    checkpoint: int
    keep: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that is known to fit together; nothing is compiled or allocated yet."""

    settings: RunSettings
    mesh: Mesh
    train_data: Dataset
    eval_data: Dataset | None
    model: Model
    optimizer: optax.GradientTransformation
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
        return Metadata(self.model, self.train_data.label_names, to_dict(settings), step, position)

    @property
    def eval_batch_size(self) -> int:
        """Global batch of evaluation."""
        return self.settings.evaluate.batch_size or self.settings.train.batch_size

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
            f"{model.classes} classes",
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
        return initial_params(self.settings.init, self.model, self.train_data.label_names, self.settings.seed)


def preflight(settings: RunSettings) -> Plan:
    """Checks the whole run and resolves it.

    Raises:
      BadSetting, UserError: one line that names the field, the value and the fix.
    """
    mesh = _mesh(settings)
    train_data = open_split(settings, settings.data.train_split, "config.data.train_split")
    split = settings.evaluate.split
    eval_data = open_split(settings, split, "config.evaluate.split") if split else None
    data.check_preprocess(settings.data)
    model = make_model(settings, len(train_data.label_names))
    steps, schedule = _durations(settings, train_data.size)
    optimizer = make_optimizer(settings.optimizer, list(model.shapes))
    multipliers = learning_rate_multipliers(settings.optimizer, model)
    state = abstract_state(model, optimizer, mesh, ema=settings.train.ema_decay > 0)
    return Plan(settings, mesh, train_data, eval_data, model, optimizer, multipliers, schedule, steps, state)


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


def open_split(settings: RunSettings, split: str, field: str) -> Dataset:
    """A split that has examples.

    Args:
      settings: of the run.
      split: split expression.
      field: where it stands, for errors.

    Raises:
      BadSetting, UserError: the data set or the split does not exist, is not prepared or is empty.
    """
    try:
        found = data.open_dataset(settings.data, split)
    except BadSetting as error:
        raise (BadSetting(field, split, error.fix) if error.field == "split" else error) from None
    if not found.size:
        raise BadSetting(field, split, f"holds no examples of {settings.data.name}")
    return found


def make_model(settings: RunSettings, classes: int) -> Model:
    """The configured model for this number of classes.

    Raises:
      BadSetting: it does not fit the images, or cannot classify.
    """
    if settings.model.pooling == "none":
        fix = "gives logits to every token; classification needs token, gap, map or first"
        raise BadSetting("config.model.pool", settings.model.pool, fix)
    try:
        return Model(settings.model, settings.data.height_width, settings.data.channels, classes)
    except BadSetting as error:
        raise error.below("config.data") from None


def _unseen(model: Model) -> list[str]:
    """A line if the patches do not cover the images."""
    rows, columns = model.unseen_pixels
    if not rows and not columns:
        return []
    return [f"note      {rows} rows and {columns} columns of every image lie beyond the last whole patch, unseen"]


def _durations(settings: RunSettings, examples: int) -> tuple[Steps, optax.Schedule]:
    def steps(text: str, field: str, total: int | None) -> int:
        parsed = Duration.parse(text, field)
        batch = settings.train.batch_size
        found = parsed.steps(batch_size=batch, examples_per_epoch=examples, total_steps=total, field=field)
        return max(found, 1) if parsed.amount else 0

    total = steps(settings.train.duration, "config.train.duration", None)
    if not total:
        raise BadSetting("config.train.duration", settings.train.duration, "a run needs at least one step")

    def part(group: str, name: str) -> int:
        return steps(getattr(getattr(settings, group), name), f"config.{group}.{name}", total)

    curve = [part("schedule", name) for name in ("warmup", "timescale", "cooldown")]
    schedule = make_schedule(settings.schedule, total, *curve)
    steps_of_run = Steps(
        total,
        log=part("log", "every"),
        evaluate=part("evaluate", "every"),
        checkpoint=part("checkpoint", "every"),
        keep=part("checkpoint", "keep_every"),
    )
    return steps_of_run, schedule
