"""Which numbers of a study are compared: its evaluations, and the runs that stand for a family of models."""

import collections
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from vit_jax.data import catalog
from vit_jax.scaling.study import RunResult
from vit_jax.scaling.table6 import AVERAGE_OF_5, EVALUATIONS, TABLE_6
from vit_jax.scaling.transfers import SEED

FAMILIES = ("ViT", "hybrid", "ResNet")
AVERAGE = "average_of_5"
_TITLES = {AVERAGE: "average of 5", "eval": "accuracy"}  # what training itself evaluates is recorded as `eval/...`
_UNITS = {1: "zettaFLOPs", 0: "exaFLOPs", -1: "petaFLOPs", -2: "teraFLOPs", -3: "gigaFLOPs"}


@dataclasses.dataclass(frozen=True)
class Point:
    """A place in the plane of compute and accuracy.

    Attributes:
      label: model, with its epochs where runs of it differ in them.
      compute: in exaFLOPs.
      accuracy: in percent.
    """

    label: str
    compute: float
    accuracy: float


def evaluations(runs: Iterable[RunResult]) -> list[str]:
    """Evaluations that some run has, those of the paper's table 6 first; the average of five where one has all."""
    found = {name for run in runs for name in run.scores}
    ordered = [name for name in EVALUATIONS if name in found] + sorted(found - set(EVALUATIONS))
    return ordered + [AVERAGE] * any(score(run, AVERAGE) is not None for run in runs)


def title(evaluation: str) -> str:
    """What a table calls an evaluation."""
    if evaluation in _TITLES:
        return _TITLES[evaluation]
    return catalog.TASKS[evaluation].title if evaluation in catalog.TASKS else evaluation


def score(run: RunResult, evaluation: str) -> float | None:
    """The accuracy of a run in percent; None where it has none."""
    return _score(run.scores, evaluation)


def _score(scores: Mapping[str, float], evaluation: str) -> float | None:
    names = AVERAGE_OF_5 if evaluation == AVERAGE else (evaluation,)
    if not set(names) <= set(scores):
        return None
    return sum(scores[name] for name in names) / len(names)


def _length(epochs: float) -> str:
    """Epochs as they were asked for: runs have whole steps, so that 3 epochs may be 3.03."""
    whole = round(epochs)
    return f"{whole}" if abs(epochs - whole) <= 0.02 * epochs else f"{epochs:.3g}"


def compute_unit(computes: Iterable[float]) -> tuple[str, float]:
    """(name, exaFLOPs of one): the unit in which the middle of these exaFLOPs is between 1 and 1000."""
    logs = [math.log10(compute) for compute in computes]
    thousands = math.floor(sum(logs) / len(logs) / 3) if logs else 0
    thousands = min(max(thousands, min(_UNITS)), max(_UNITS))
    return _UNITS[thousands], 1000.0**thousands


def points_of_runs(runs: Iterable[RunResult], evaluation: str) -> dict[str, list[Point]]:
    """The finished runs of each family: the mean over seeds, of the best settings for each model and compute.

    A sweep over learning rates thus gives one point for each model and length of training, as papers report it.
    """
    seeds = collections.defaultdict(list)
    for run in runs:
        found = score(run, evaluation)
        if run.status == "done" and found is not None:
            others = {key: value for key, value in run.overrides.items() if key != SEED}
            key = (run.cost.family, run.cost.model, run.cost.exaflops, json.dumps(others, sort_keys=True))
            seeds[key].append((found, run.cost.epochs))
    best: dict[tuple[str, str, float], tuple[float, float]] = {}
    for (family, model, compute, _), scores in seeds.items():
        mean, epochs = sum(accuracy for accuracy, _ in scores) / len(scores), scores[0][1]
        best[family, model, compute] = max(best.get((family, model, compute), (-1.0, 0.0)), (mean, epochs))
    rows = [(family, model, epochs, compute, mean) for (family, model, compute), (mean, epochs) in best.items()]
    return _points(rows)


def points_of_paper(evaluation: str) -> dict[str, list[Point]]:
    """The paper's table 6, for evaluations that it has; else nothing."""
    scored = [(run, _score(run.accuracies, evaluation)) for run in TABLE_6]
    return _points([(r.family, r.model, r.epochs, r.exaflops, found) for r, found in scored if found is not None])


def _points(rows: Sequence[tuple[str, str, float, float, float]]) -> dict[str, list[Point]]:
    """Rows of (family, model, epochs, compute, accuracy) by family, each family by rising compute."""
    lengths = collections.defaultdict(set)
    for _, model, epochs, *_ in rows:
        lengths[model].add(_length(epochs))
    families: dict[str, list[Point]] = {family: [] for family in FAMILIES}
    for family, model, epochs, compute, accuracy in sorted(rows, key=lambda row: row[3]):
        label = model if len(lengths[model]) == 1 else f"{model}, {_length(epochs)} ep"
        families[family].append(Point(label, compute, accuracy))
    return {family: points for family, points in families.items() if points}
