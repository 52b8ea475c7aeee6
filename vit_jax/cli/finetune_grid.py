"""`vit_jax finetune-grid`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.scaling import Candidate, Splits, TaskResult
    from vit_jax.train import RunSettings

DESCRIPTION = """\
Fine-tunes as papers report it: tries every learning rate on images held out of training, trains on all of them with the
best one, and reports the test split over several seeds. The same command goes on where it was stopped.

  vit_jax finetune-grid --config=configs/finetune.py:B/16,oxford_iiit_pet --workdir=g
  vit_jax finetune-grid --config='configs/finetune.py:B/16,{task}' --tasks=cifar10,oxford_flowers102 --workdir=g
  vit_jax finetune-grid --config='configs/finetune.py:B/16,{task}' --tasks=vtab --joint \\
      --learning_rates=0.003,0.01 --durations='500 steps,2500 steps' --workdir=v
  vit_jax finetune-grid --config=configs/folder.py:/images --dev_train='train[:90%]' --dev='train[90%:]' \\
      --learning_rates=1e-4,3e-4 --workdir=g

Splits and learning rates are those of the catalog (`vit_jax data --catalog`) unless flags say otherwise. `vtab` stands
for its 19 tasks; the means of their groups and over all are printed. A run that diverges counts as 0."""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("finetune-grid", DESCRIPTION, arguments.CONFIG_HELP + "\n" + arguments.EXIT_HELP)
    explained = "the runs' config; {task} in it stands for each task"
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help=explained)
    parser.add_argument("--workdir", required=True, help="folder of all runs")
    parser.add_argument("--tasks", metavar="LIST", help="tasks of the catalog, joined by commas, or vtab")
    parser.add_argument("--learning_rates", metavar="LIST", help="to choose from (default: the task's)")
    parser.add_argument("--durations", metavar="LIST", help="lengths to choose from (default: the config's)")
    parser.add_argument("--seeds", type=int, default=3, help="runs on all training images (default: 3)")
    parser.add_argument("--joint", action="store_true", help="one choice for all tasks, by their mean")
    parser.add_argument("--dev_train", metavar="SPLIT", help="to train on while choosing (default: the task's)")
    parser.add_argument("--dev", metavar="SPLIT", help="to choose on (default: the task's)")
    parser.add_argument("--dry_run", action="store_true", help="check and list the runs, and stop")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments.add_distributed(parser)
    flags, overrides = arguments.parse(parser, argv)
    if flags.seeds < 1:
        parser.error(f"--seeds={flags.seeds}: must be at least 1")
    if bool(flags.dev) != bool(flags.dev_train):
        parser.error("--dev and --dev_train belong together")
    if flags.tasks and "{task}" not in flags.config:
        parser.error("--tasks: write {task} in --config where its name goes")

    from vit_jax import parallel
    from vit_jax.cli.embedded import prepare_embedded
    from vit_jax.scaling import finetune_grid
    from vit_jax.train import preflight

    tasks = _tasks(flags, overrides)
    candidates = {name: _candidates(flags, settings) for name, (settings, _) in tasks.items()}
    distributed = arguments.join(flags, flags.workdir)
    for settings, _ in tasks.values():
        prepare_embedded(settings)
    with parallel.together():
        for settings, _ in tasks.values():
            preflight(settings)
    if flags.dry_run:
        _list(candidates, flags.seeds)
        return 0
    workdir = Path(flags.workdir)
    found = finetune_grid(tasks, workdir, candidates, seeds=flags.seeds, joint=flags.joint, distributed=distributed)
    if parallel.is_main():
        report = _report(found)
        (workdir / "result.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(report)) if flags.json else _print(found, report)
    return 0


def _tasks(flags: argparse.Namespace, overrides: Sequence[str]) -> "dict[str, tuple[RunSettings, Splits]]":
    """{task: (settings, splits)}."""
    from vit_jax.config_files import load_settings
    from vit_jax.data import catalog
    from vit_jax.errors import UserError
    from vit_jax.scaling import Splits
    from vit_jax.train import RunSettings

    listed = (flags.tasks or "").split(",")
    names = [name for part in listed for name in (catalog.VTAB if part.strip() == "vtab" else [part.strip()])]
    found = {}
    for name in names:
        settings = load_settings(RunSettings, flags.config.replace("{task}", name), overrides)
        data = settings.data
        if flags.dev:
            splits = Splits((flags.dev_train, flags.dev), (data.train_split, settings.evaluate.split))
        elif data.task:
            splits = Splits.of_task(data.task)
        else:
            raise UserError("config.data.task is empty: give --dev_train and --dev, splits to choose on")
        found[name or data.task or data.name] = (settings, splits)
    return found


def _candidates(flags: argparse.Namespace, settings: "RunSettings") -> "list[Candidate]":
    from vit_jax.data import catalog
    from vit_jax.scaling import Candidate

    task = catalog.TASKS.get(settings.data.task)
    rates = list(task.tuning.learning_rates) if task and task.tuning else [settings.schedule.learning_rate]
    if flags.learning_rates:
        rates = list(arguments.numbers("--learning_rates", flags.learning_rates, float))
    durations = [text.strip() for text in (flags.durations or settings.train.duration).split(",")]
    return [Candidate(rate, duration) for duration in durations for rate in rates]


def _list(candidates: "dict[str, list[Candidate]]", seeds: int) -> None:
    for name, found in candidates.items():
        print(name)
        if len(found) > 1:
            print("  choose   " + ", ".join(f"{c.learning_rate:g} for {c.duration}" for c in found))
        print(f"  report   {seeds} seeds")
    runs = sum(seeds + (len(found) if len(found) > 1 else 0) for found in candidates.values())
    print(f"{runs} runs")


def _report(found: "dict[str, TaskResult]") -> dict[str, Any]:
    from vit_jax.data import catalog
    from vit_jax.evaluate import vtab_score

    report: dict[str, Any] = {"tasks": {name: result.summary() for name, result in found.items()}}
    if set(catalog.VTAB) <= set(found):
        report["vtab"] = vtab_score({name: found[name].accuracy for name in catalog.VTAB})
    return report


def _print(found: "dict[str, TaskResult]", report: dict[str, Any]) -> None:
    for name, result in found.items():
        print(name)
        for candidate, accuracy in result.dev.items():
            mark = "  <- chosen" if candidate == result.chosen.name else ""
            print(f"  {candidate:<28} dev {accuracy:.2%}{mark}")
        for metric, numbers in report["tasks"][name]["test"].items():
            if metric.endswith("accuracy"):
                spread = f"[{numbers['min']:.2%} ... {numbers['max']:.2%}] over {len(numbers['values'])} seeds"
                print(f"  {metric.removesuffix('/accuracy'):<28} test {numbers['mean']:.2%} {spread}")
    for group, value in report.get("vtab", {}).items():
        print(f"VTAB {group:<12} {value:.2%}")
