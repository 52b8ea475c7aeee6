"""Studies in several steps: a run, and those that start from its weights, are one row of the results."""

import dataclasses
import json
import math
from collections.abc import Iterable

from vit_jax.scaling.hyper import WEIGHTS
from vit_jax.scaling.study import RunResult, Study

SEED = "config.seed"


def rows_of(study: Study) -> tuple[RunResult, ...]:
    """The runs that start from no other, each with the results of those that start from it.

    A transfer that is done adds its accuracies: on its own data by the name of that data. Of several transfers to the
    same data the best settings count, by their mean over seeds. Cost and time are those of the first run, as in the
    paper. Where the first runs train on several data sets, what they reach on their own goes by its name, too.
    """
    several = len({run.cost.data for run in study.runs if not run.cost.parent}) > 1
    by_name = {run.cost.name: run for run in study.runs}
    transfers: dict[str, list[RunResult]] = {}
    for run in study.runs:
        first = run
        while first.cost.parent in by_name:
            first = by_name[first.cost.parent]
        if first is not run and run.status == "done":
            transfers.setdefault(first.cost.name, []).append(run)
    return tuple(
        _with(run, best_scores(transfers.get(run.cost.name, ())), several)
        for run in study.runs
        if run.cost.parent not in by_name
    )


def _with(run: RunResult, found: dict[str, float], several: bool) -> RunResult:
    own = {_by_data(name, run) if several else name: value for name, value in run.scores.items()}
    return dataclasses.replace(run, scores={**own, **found})


def _by_data(evaluation: str, run: RunResult) -> str:
    return run.cost.data if evaluation == "eval" else evaluation


def best_scores(runs: Iterable[RunResult]) -> dict[str, float]:
    """The accuracies of the best settings by evaluation, mean over seeds; `eval` goes by the name of the data."""
    seeds: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        others = {key: value for key, value in run.overrides.items() if key not in (SEED, WEIGHTS)}
        for name, value in run.scores.items():
            seeds.setdefault((_by_data(name, run), json.dumps(others, sort_keys=True)), []).append(value)
    best: dict[str, float] = {}
    for (name, _), values in seeds.items():
        best[name] = max(best.get(name, -math.inf), sum(values) / len(values))
    return best
