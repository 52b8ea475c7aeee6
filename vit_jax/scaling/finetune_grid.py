"""Fine-tuning as papers report it: choose on images held out of training, train on all, test over several seeds.

A grid's workdir holds, for each task, `dev/<candidate>/` and `final/seed_<n>/`, ordinary workdirs of runs with a
`result.json` once they are done; running the grid again does what is missing.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax import parallel
from vit_jax.data import catalog
from vit_jax.errors import BadSetting, Diverged
from vit_jax.train import Reporter, RunSettings, train

RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One setting of the grid.

    Attributes:
      learning_rate: `config.schedule.learning_rate`.
      duration: `config.train.duration`.
    """

    learning_rate: float
    duration: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"lr_{self.learning_rate:g}_{self.duration.replace(' ', '_').replace('%', 'percent')}"

    def of(self, settings: RunSettings) -> RunSettings:
        """The settings with this candidate's values."""
        return dataclasses.replace(
            settings,
            train=dataclasses.replace(settings.train, duration=self.duration),
            schedule=dataclasses.replace(settings.schedule, learning_rate=self.learning_rate),
        )


@dataclasses.dataclass(frozen=True)
class Splits:
    """Where hyperparameters are chosen and where results come from: (trained on, tested on) of both stages."""

    dev: tuple[str, str]
    final: tuple[str, str]

    @staticmethod
    def of_task(name: str) -> "Splits":
        """Those of the catalog.

        Raises:
          BadSetting: no such task, or it is only tested on.
        """
        task = catalog.get(name)
        if not task.dev:
            raise BadSetting("config.data.task", name, "has no images to choose on; fine-tune on another")
        return Splits((task.dev_train, task.dev), (task.train, task.test))


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """What a grid found for one task.

    Attributes:
      dev: {candidate: accuracy on the held-out images}; empty if there was nothing to choose, 0 for runs that diverged.
      chosen: the candidate that was trained on all images.
      test: {`<evaluator>/<metric>`: the values of all seeds}; `eval/accuracy` is the task's own.
    """

    dev: dict[str, float]
    chosen: Candidate
    test: dict[str, list[float]]

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.test["eval/accuracy"])

    def summary(self) -> dict[str, Any]:
        """For JSON: mean, smallest and largest of everything tested."""
        numbers = {
            name: {"mean": statistics.fmean(values), "min": min(values), "max": max(values), "values": values}
            for name, values in self.test.items()
        }
        return {"dev": self.dev, "chosen": dataclasses.asdict(self.chosen), "test": numbers}


def finetune_grid(
    tasks: Mapping[str, tuple[RunSettings, Splits]],
    workdir: Path,
    candidates: Mapping[str, Sequence[Candidate]],
    *,
    seeds: int = 3,
    joint: bool = False,
    reporter: Reporter | None = None,
    distributed: bool = False,
) -> dict[str, TaskResult]:
    """Chooses, trains and tests for each task.

    Args:
      tasks: {name: (settings of its runs, its splits)}.
      workdir: of the grid.
      candidates: {name of the task: what to choose from}.
      seeds: runs on all images: seeds 0, 1, ...
      joint: one candidate for all tasks, by the mean accuracy over them, as for VTAB in the paper; all tasks must have
        the same candidates.
      reporter: tells a person.
      distributed: as for `train`.

    Raises:
      BadSetting: candidates that do not fit.
      Stopped: by a signal; the same call goes on.
    """
    if joint and len({tuple(found) for found in candidates.values()}) > 1:
        raise BadSetting("--joint", True, "the tasks have different candidates; give --learning_rates and --durations")
    run = _runner(reporter or Reporter(parallel.is_main()), distributed)
    dev = {
        name: {
            candidate: _dev_accuracy(
                run, candidate.of(_at(settings, splits.dev)), folder(workdir, name) / "dev" / candidate.name
            )
            for candidate in candidates[name]
        }
        if len(candidates[name]) > 1
        else {}
        for name, (settings, splits) in tasks.items()
    }
    chosen = _choose(dev, candidates, joint)
    results = {}
    for name, (settings, splits) in tasks.items():
        best = chosen[name].of(_at(settings, splits.final))
        found = [
            run(dataclasses.replace(best, seed=seed), folder(workdir, name) / "final" / f"seed_{seed}")
            for seed in range(seeds)
        ]
        test = {key: [numbers[key] for numbers in found] for key in found[0]}
        results[name] = TaskResult({c.name: value for c, value in dev[name].items()}, chosen[name], test)
    return results


def folder(workdir: Path, task: str) -> Path:
    """Where the runs of a task lie."""
    return workdir / task.replace("/", "_")


def _at(settings: RunSettings, splits: tuple[str, str]) -> RunSettings:
    """The settings on these splits of the same data."""
    return dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, train_split=splits[0]),
        evaluate=dataclasses.replace(settings.evaluate, split=splits[1]),
    )


def _choose(
    dev: Mapping[str, Mapping[Candidate, float]], candidates: Mapping[str, Sequence[Candidate]], joint: bool
) -> dict[str, Candidate]:
    """The best candidate of each task, the first of equals."""
    if joint:
        shared = next(iter(candidates.values()))
        best = max(shared, key=lambda c: sum(found.get(c, 0.0) for found in dev.values()))
        return dict.fromkeys(dev, best)
    return {name: max(candidates[name], key=lambda c: found.get(c, 0.0)) for name, found in dev.items()}


Run = Callable[[RunSettings, Path], dict[str, float]]


def _runner(reporter: Reporter, distributed: bool) -> Run:
    """A function that trains in a workdir, unless that is done, and gives `{"eval/accuracy": ...}`."""

    def run(settings: RunSettings, where: Path) -> dict[str, float]:
        done = where / RESULT
        if parallel.from_main(int(done.exists())):
            return json.loads(done.read_text(encoding="utf-8"))
        reporter.say(f"\n== {where}")
        found = train(settings, where, reporter=reporter, distributed=distributed).evaluations
        numbers = {f"{name}/{key}": value for name, metrics in found.items() for key, value in metrics.items()}
        if parallel.is_main():
            done.write_text(json.dumps(numbers), encoding="utf-8")
        parallel.barrier("result")
        return numbers

    return run


def _dev_accuracy(run: Run, settings: RunSettings, where: Path) -> float:
    """Accuracy on the held-out images; 0 for a run that diverges, as too high a learning rate may."""
    quiet = dataclasses.replace(settings, evaluators={})
    try:
        return run(quiet, where)["eval/accuracy"]
    except Diverged:
        return 0.0
