"""Everything a run needs, checked before anything expensive: devices, data, splits, shapes, durations, rules."""

import dataclasses
import math

from vit_jax import data, parallel
from vit_jax.checkpoint import Metadata, Report
from vit_jax.data import Dataset
from vit_jax.errors import BadSetting
from vit_jax.models import Model, Params
from vit_jax.rules import assign, describe
from vit_jax.settings import to_dict
from vit_jax.train.evaluations import Evaluation, class_names, open_evaluations, open_split
from vit_jax.train.facts import facts_of
from vit_jax.train.initial import initial_params
from vit_jax.train.inspection import Inspection, open_inspection
from vit_jax.train.multipliers import frozen
from vit_jax.train.program import Program, check_mesh, make_program
from vit_jax.train.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class Plan(Program):
    """A run that is known to fit together, data included; nothing is compiled or allocated yet.

    Attributes:
      train_data: what it trains on.
      evaluations: its tests, by name.
      inspection: its pictures; None for none.
    """

    train_data: Dataset
    evaluations: dict[str, Evaluation]
    inspection: Inspection | None

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
            *self._chosen(),
            *self.whole(),
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

    def _chosen(self) -> list[str]:
        """A line if the mesh is not what the config says, nor pure data parallel."""
        size = self.mesh.shape["fsdp"]
        if self.settings.mesh.fsdp or size == 1:
            return []
        why = "leaves room for activations; config.mesh.fsdp sets another"
        return [f"mesh      fsdp {size} was chosen: parameters, optimizer and gradients in so many parts {why}"]

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
    check_mesh(settings)
    parallel.check_compiler(settings.compiler)
    train_data = _training_data(settings)
    data.check_preprocess(settings.data)
    program = make_program(settings, facts_of(train_data))
    state, total = program.state, program.steps.total
    evaluations = open_evaluations(settings, program.model, program.mesh, train_data, state["params"], total)
    inspection = open_inspection(settings, program.model, program.mesh, train_data.size, total)
    parts = {field.name: getattr(program, field.name) for field in dataclasses.fields(program)}
    return Plan(**parts, train_data=train_data, evaluations=evaluations, inspection=inspection)


def _training_data(settings: RunSettings) -> Dataset:
    if not settings.data.train_split:
        raise BadSetting("config.data.task", settings.data.task, "has no training images; train on another")
    return open_split(settings, settings.data.train_split, "config.data.train_split")


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
