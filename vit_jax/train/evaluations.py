"""The tests of a run: on its own data, and those of `config.evaluators`."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from jax.sharding import Mesh

from vit_jax import data
from vit_jax.data import Dataset
from vit_jax.errors import BadSetting, UserError
from vit_jax.evaluate import Classification, Evaluator, MaskedPatches, Subject, check_labels, make_evaluator
from vit_jax.models import Model
from vit_jax.train.settings import RunSettings
from vit_jax.train.spans import in_steps


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A test of the parameters during the run.

    Attributes:
      evaluator: gives the numbers.
      every: how many steps, besides at the end; 0 is at the end only.
      title: for the log.
    """

    evaluator: Evaluator
    every: int
    title: str


def open_evaluations(
    settings: RunSettings, model: Model, mesh: Mesh, train_data: Dataset, params: Any, total: int
) -> dict[str, Evaluation]:
    """All tests of the run by name, `eval` on its own data first; their data is opened, nothing is compiled.

    Args:
      settings: of the run.
      model: of the run.
      mesh: of the job.
      train_data: what it trains on.
      params: shardings of the parameters.
      total: steps of the run.

    Raises:
      BadSetting, UserError: a data set or split does not exist, is not prepared, or has other classes than the model.
    """
    names = class_names(settings, train_data)
    size = settings.evaluate.batch_size or settings.train.batch_size
    subject = Subject(model, names, settings.data, settings.train.loss, mesh, size, params)
    found = {}
    if split := settings.evaluate.split:
        every = in_steps(settings, settings.evaluate.every, "config.evaluate.every", train_data.size, total)
        found["eval"] = Evaluation(own_evaluator(settings, subject, split, "config.evaluate.split"), every, split)
    for name, about in settings.evaluators.items():
        field = f"config.evaluators.{name}"
        every = in_steps(settings, about.every, f"{field}.every", train_data.size, total)
        found[name] = Evaluation(make_evaluator(about, subject, field), every, name)
    return found


def own_evaluator(
    settings: RunSettings, subject: Subject, split: str, field: str, ignore_label_names: bool = False
) -> Evaluator:
    """The test on the run's own data: of what it is trained for.

    Args:
      settings: of the run.
      subject: what is tested.
      split: of the run's data set.
      field: where the split stands, for errors.
      ignore_label_names: the classes of the data set have other names but mean the same.

    Raises:
      BadSetting, UserError: the split cannot be opened or has other classes.
    """
    dataset = open_split(settings, split, field)
    model, mesh, size, params = subject.model, subject.mesh, subject.batch_size, subject.params
    if settings.train.objective == "masked_patches":
        return MaskedPatches(model, settings.masked, dataset, mesh, size, params)
    if not model.classes:
        raise UserError(f"{field}: the model has no classifier to test")
    if not ignore_label_names:
        with _named(field):
            check_labels(subject.label_names, dataset.label_names)
    return Classification(model, dataset, mesh, size, loss=subject.loss, params=params)


@contextlib.contextmanager
def _named(field: str) -> Iterator[None]:
    """Puts the name of a field before what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{field}: {error}") from None


def class_names(settings: RunSettings, dataset: Dataset) -> tuple[str, ...]:
    """Names of the model's outputs; none where they are no classes."""
    return dataset.label_names if settings.train.objective == "supervised" else ()


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
