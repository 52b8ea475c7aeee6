"""What each run of a sweep costs: exact parameters, and compute by the convention of the ViT paper's table 6."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vit_jax.data import known_size
from vit_jax.durations import Duration
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import ModelSettings, training_flops
from vit_jax.scaling.sweeps import Sweep, SweepRun
from vit_jax.train import RunSettings, make_model, open_split

# Settings that change a variant's shape, and how names of models say so.
_SHAPE = {
    "width": "width",
    "depth": "depth",
    "mlp_dim": "MLP",
    "heads": "heads",
    "patch": "patch",
    "trunk_units": "units",
    "trunk_width": "trunk width",
}


@dataclasses.dataclass(frozen=True)
class DataSize:
    """What of a data set decides costs.

    Attributes:
      examples: of the training split, after `config.data.subset`.
      classes: outputs of the classifier.
    """

    examples: int
    classes: int


@dataclasses.dataclass(frozen=True)
class RunCost:
    """A row of a sweep's table.

    Attributes:
      name: of the run.
      model: its variant, and what of the variant's shape the config changes: `B/16, depth 8`.
      family: `ViT`, `hybrid` or `ResNet`.
      parameters: all, with the classifier.
      exaflops: 10^18 FLOPs of the whole run: three forward passes of the backbone for each image, see
        `vit_jax.models.training_flops`. Mixing, patch dropout and remat do not change it.
      steps: optimizer steps.
      epochs: passes over the training split.
      examples: in one epoch.
      image_size: (height, width) in pixels.
      data: its data set: a task of the catalog where it is one, else `config.data.name`.
      parent: the run whose weights it starts from; empty if it starts from no run of the sweep.
    """

    name: str
    model: str
    family: str
    parameters: int
    exaflops: float
    steps: int
    epochs: float
    examples: int
    image_size: tuple[int, int]
    data: str = ""
    parent: str = ""

    @property
    def images(self) -> int:
        """That are seen in training, counted each time."""
        return round(self.epochs * self.examples)


def expected_size(settings: RunSettings) -> DataSize:
    """What a run trains on: as the catalog tells it, or else from the data set, which must be prepared then.

    Raises:
      BadSetting, UserError: neither knows.
    """
    found = known_size(settings.data)
    if found is not None:
        return DataSize(*found)
    dataset = open_split(settings, settings.data.train_split, "config.data.train_split")
    return DataSize(dataset.size, len(dataset.label_names))


def describe_sweep(
    sweep: Sweep,
    data_size: Callable[[RunSettings], DataSize] = expected_size,
    known: Mapping[str, RunCost] | None = None,
) -> list[RunCost]:
    """The table of a sweep; models are traced, not made.

    Args:
      sweep: from `load_sweep`.
      data_size: what a run trains on; it may raise UserError.
      known: rows that need not be counted again, by name, see `known_costs`.

    Raises:
      UserError: names the run whose model does not fit its images, or whose length cannot be told.
    """
    traced: dict[Any, tuple[int, int]] = {}
    costs = []
    for run in sweep.runs:
        try:
            costs.append((known or {}).get(run.name) or _cost(run, data_size(run.settings), traced))
        except UserError as error:
            raise UserError(f"{sweep.config}, run {run.name}: {error}") from None
    return costs


def _cost(run: SweepRun, size: DataSize, traced: dict[Any, tuple[int, int]]) -> RunCost:
    settings = run.settings
    key = (settings.model, settings.data.height_width, settings.data.channels, size.classes)
    if key not in traced:  # tracing takes a second: runs of one model share it
        model = make_model(settings, size.classes)
        traced[key] = model.parameter_count, training_flops(model, images=1)
    parameters, per_image = traced[key]
    batch, duration, field = settings.train.batch_size, settings.train.duration, "config.train.duration"
    steps = Duration.parse(duration, field).steps(
        batch_size=batch, examples_per_epoch=size.examples, total_steps=None, field=field
    )
    if steps < 1:
        raise BadSetting(field, duration, "a run needs at least one step")
    return RunCost(
        name=run.name,
        model=_model_name(settings.model),
        family=settings.model.resolved.family,
        parameters=parameters,
        exaflops=per_image * steps * batch / 1e18,
        steps=steps,
        epochs=steps * batch / size.examples,
        examples=size.examples,
        image_size=settings.data.height_width,
        data=settings.data.task or settings.data.name,
        parent=run.parent,
    )


def _model_name(settings: ModelSettings) -> str:
    changed = [(words, getattr(settings, field)) for field, words in _SHAPE.items()]
    said = [(w, "-".join(map(str, v)) if isinstance(v, tuple) else v) for w, v in changed if v is not None]
    return ", ".join([settings.variant, *(f"{words} {value}" for words, value in said)])
