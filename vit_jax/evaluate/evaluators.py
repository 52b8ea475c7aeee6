"""Named tests of a model: from settings to something that gives numbers for parameters."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from jax.sharding import Mesh

from vit_jax.data import RESIZE_SMALL_RATIO, Dataset, DataSettings, catalog, open_dataset
from vit_jax.errors import BadSetting, UserError
from vit_jax.evaluate.classification import Classification
from vit_jax.evaluate.frozen import Frozen, Splits
from vit_jax.evaluate.settings import EvaluatorSettings
from vit_jax.evaluate.speed import Speed
from vit_jax.evaluate.vtab import vtab_score
from vit_jax.models import Model, Params

# Few-shot pools up to this size are looked at whole; of larger ones only the images that are needed.
WHOLE_POOL = 10_000


class Evaluator(Protocol):
    """Tests parameters on data that it has opened."""

    def run(self, params: Params) -> dict[str, float]:
        """Named numbers; `examples` is how many images they rest on."""

    def describe(self, found: dict[str, float]) -> str:
        """The numbers for a person, on one line."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is tested and how it runs.

    Attributes:
      model: whose parameters.
      label_names: of its classes.
      data: of the run that trained it: data set, sizes and crops where an evaluator says nothing else.
      loss: that it was trained with, `softmax` or `sigmoid`.
      mesh: of the job.
      batch_size: global; a multiple of the mesh's batch axes.
      params: shardings of the parameters, as arrays or `ShapeDtypeStruct`s; None leaves them to jit.
    """

    model: Model
    label_names: tuple[str, ...]
    data: DataSettings
    loss: str
    mesh: Mesh
    batch_size: int
    params: Any = None


def make_evaluator(settings: EvaluatorSettings, subject: Subject, field: str) -> Evaluator:
    """Opens the data of an evaluator and checks that the model fits it; nothing is compiled.

    Args:
      settings: of the evaluator.
      subject: the model.
      field: where the settings stand, for errors.

    Raises:
      BadSetting, UserError: a data set or split does not exist or is not prepared, or has other classes.
    """
    if settings.kind == "speed":
        return Speed(subject.model, subject.mesh, settings.most, subject.params)
    if settings.task == "vtab":
        tasks = {name: dataclasses.replace(settings, task=name) for name in catalog.VTAB}
        return VtabEvaluator({name: make_evaluator(own, subject, field) for name, own in tasks.items()}, settings)
    try:
        data = _data_settings(settings, subject.data)
        if settings.kind == "classification":
            return _classification(settings, data, subject)
        splits = _splits(settings, data)
    except BadSetting as error:
        name = error.field.removeprefix("config.data.").replace("eval_preprocess", "preprocess")
        raise BadSetting(f"{field}.{name}", error.value, error.fix) from None
    except UserError as error:
        raise UserError(f"{field}: {error}") from None
    return Frozen(settings, splits, subject.model, subject.mesh, subject.batch_size, subject.params)


def _classification(settings: EvaluatorSettings, data: DataSettings, subject: Subject) -> Classification:
    if not subject.model.classes or subject.model.settings.pooling == "none":
        raise BadSetting("kind", settings.kind, "the model does not classify images; take fewshot, linear or knn")
    dataset = _open(data, _test_split(settings, data))
    if not settings.ignore_label_names:
        check_labels(subject.label_names, dataset.label_names)
    return Classification(
        subject.model, dataset, subject.mesh, subject.batch_size, loss=subject.loss, params=subject.params
    )


def check_labels(ours: Sequence[str], theirs: Sequence[str]) -> None:
    """Raises UserError when a data set's classes are not those the model was trained on."""
    if len(ours) != len(theirs):
        raise UserError(f"the data set has {len(theirs)} classes and the model {len(ours)}")
    different = [(i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if different:
        i, a, b = different[0]
        fix = "set ignore_label_names if they mean the same"
        raise UserError(f"class {i} is {b!r} in the data set and {a!r} in the model; {fix}")


def _data_settings(settings: EvaluatorSettings, run: DataSettings) -> DataSettings:
    """The data settings of an evaluator: like those of the run where it says nothing."""
    labels, preprocess = run.task and catalog.get(run.task).labels, settings.preprocess
    if settings.task:
        labels = catalog.get(settings.task).labels
    if settings.kind == "fewshot" and not preprocess and (settings.task or run.task):
        squeezed = f"decode|resize(ratio={RESIZE_SMALL_RATIO})|central_crop"
        preprocess = f"{labels}|{squeezed}" if labels else squeezed
    if not (settings.task or settings.name):
        return dataclasses.replace(
            run,
            subset=None,
            data_dir=settings.data_dir or run.data_dir,
            label_key=run.label_key if settings.label_key == "" else settings.label_key,
            eval_preprocess=preprocess or run.eval_preprocess,
        )
    return DataSettings(
        task=settings.task,
        crops=run.crops or (catalog.get(run.task).crops if run.task else ""),
        name=settings.name,
        data_dir=settings.data_dir or run.data_dir,
        label_key=settings.label_key,
        image_size=run.image_size,
        channels=run.channels,
        eval_preprocess=preprocess or ("" if settings.task else run.eval_preprocess),
        threads=run.threads,
        on_error=run.on_error,
    )


def _test_split(settings: EvaluatorSettings, data: DataSettings) -> str:
    return settings.split or dataclasses.replace(data, stage="final").test_split


def _open(data: DataSettings, split: str) -> Dataset:
    found = open_dataset(data, split)
    if not found.size:
        raise BadSetting("split", split, f"holds no examples of {data.name}")
    return found


def _splits(settings: EvaluatorSettings, data: DataSettings) -> Splits:
    """Opens the splits of a test of frozen features."""
    task = catalog.TASKS.get(data.task)
    choosing = len(settings.l2) > 1 and settings.kind != "knn"
    held_out = settings.validation or (task.dev if task else "")
    if choosing and not held_out:
        raise BadSetting("validation", "", "l2 names several strengths: name a split to compare them on")
    support = settings.support or ((task.dev_train if choosing else task.train) if task else "train")
    if not support:
        raise BadSetting("support", "", f"{data.task} has no training images: name a split to learn from")
    return Splits(
        tuple(_pools(settings, dataclasses.replace(data, train_split=support))),
        _open(data, _test_split(settings, data)),
        _open(data, held_out) if choosing else None,
    )


def _pools(settings: EvaluatorSettings, data: DataSettings) -> Iterator[Dataset]:
    """The images to learn from: all of them, or, of large sets for few-shot tests, a choice for each seed."""
    whole = _open(data, data.train_split)
    if whole.multi_label:
        fix = f"needs one label an image, and those of {data.name} have several"
        raise BadSetting("kind", settings.kind, fix)
    if settings.kind != "fewshot" or whole.size <= WHOLE_POOL:
        yield whole
        return
    for seed in range(settings.seeds):
        chosen = dataclasses.replace(data, subset=f"{max(settings.shots)} per class", subset_seed=seed)
        yield _open(chosen, data.train_split)


class VtabEvaluator:
    """All 19 tasks of VTAB-1k, one after the other.

    Args:
      tasks: {name in the catalog: evaluator}.
      settings: of all of them.
    """

    def __init__(self, tasks: Mapping[str, Evaluator], settings: EvaluatorSettings):
        self._tasks = tasks
        shots = [f"{k}_shot" for k in settings.shots]
        self._metrics = shots if settings.kind == "fewshot" else ["accuracy"]

    def run(self, params: Params) -> dict[str, float]:
        """`{"caltech101": accuracy, ..., "natural", "specialized", "structured", "mean", "examples"}`.

        Few-shot results have names such as `5_shot/caltech101`.
        """
        found = {name: evaluator.run(params) for name, evaluator in self._tasks.items()}
        result: dict[str, float] = {}
        for metric in self._metrics:
            accuracies = {name: numbers[metric] for name, numbers in found.items()}
            prefix = "" if metric == "accuracy" else f"{metric}/"
            result |= {f"{prefix}{name.removeprefix('vtab/')}": value for name, value in accuracies.items()}
            result |= {f"{prefix}{name}": value for name, value in vtab_score(accuracies).items()}
        return {**result, "examples": sum(numbers["examples"] for numbers in found.values())}

    def describe(self, found: dict[str, float]) -> str:
        """`natural 80.0%, specialized 81.0%, structured 55.0%, mean 70.0%`."""
        shown = [(name, value) for name, value in found.items() if name.rpartition("/")[2] in _MEANS]
        return ", ".join(f"{name} {value:.2%}" for name, value in shown)


_MEANS = ("natural", "specialized", "structured", "mean")
