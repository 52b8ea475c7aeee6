"""`vit_jax sweep`."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.scaling import Study, Sweep, SweepRow

DESCRIPTION = """\
Runs many runs from one file: shows what each costs, then does those that are missing. Any number of such commands may
work on one sweep; the same command goes on where it was stopped.

  vit_jax sweep --config=configs/sweeps/digits_scaling.py --workdir=study
  vit_jax sweep --config=configs/sweeps/scaling_study.py --dry_run --json
  vit_jax sweep status --workdir=study                # what has become of every run
  vit_jax sweep --config=... --workdir=... --where=slurm --parallel=4 -- --nodes=2 --gpus_per_node=8

A run that fails is listed with its error and does not stop the others. Ctrl-C or SIGTERM stops after the step under
way, saved. `vit_jax report --workdir=...` says what came out. After -- stand the flags of `vit_jax launch <where>`."""

EPILOG = """\
where:
  local  one run after another in a process that is started again when a run brings it down
  here   in this very process, which may be one of several; what the launchers start
  slurm  a job array, an element for each run with those that start from its weights
  tpu    a queued resource for each of these
  gke    a JobSet for each of these

exit status:
  0 all is done; 42 stopped, the same command goes on; otherwise that of the first run that failed
"""

STATUS = """\
Says what has become of every run of a sweep, with the newest accuracies, at any time.

  vit_jax sweep status --workdir=study"""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    if argv and argv[0] == "status":
        return _status(argv[1:])
    argv, after = _split(list(argv))
    parser = _parser()
    flags, overrides = arguments.parse(parser, argv)
    if not flags.workdir and not flags.dry_run:
        parser.error("--workdir is required; --dry_run shows the sweep without one")
    if after and flags.where in ("local", "here"):
        parser.error(f"{after[0]!r}: --where={flags.where} takes no flags after --")
    if flags.together < 1 or flags.parallel < 0:
        parser.error("--together must be at least 1, and --parallel not negative")

    from vit_jax import parallel
    from vit_jax.scaling import choose_runs, describe_sweep, known_costs, load_sweep, save_sweep, sweep_rows

    distributed = arguments.join(flags, flags.workdir) if flags.where == "here" else False
    sweep = load_sweep(flags.config, overrides)
    only = choose_runs(sweep, flags.only, flags.take, flags.skip)
    with parallel.together():
        costs = describe_sweep(sweep, known=known_costs(flags.workdir, sweep) if flags.workdir else None)
    rows = sweep_rows(sweep, costs)
    shown = [row for row in rows if only is None or row.cost.name in only]
    if flags.where in ("slurm", "tpu", "gke"):
        from vit_jax.cli.sweep_jobs import launch

        return launch(flags, sweep, shown, costs, overrides, after)
    if flags.dry_run:
        _show(shown, flags.json)
        return 0
    with parallel.together():
        if parallel.is_main():
            save_sweep(flags.workdir, sweep, costs)
    if flags.where == "local":
        _show(shown, as_json=False)
        return _supervise(flags, overrides)
    return _run(flags, sweep, only, distributed)


def _parser() -> argparse.ArgumentParser:
    parser = arguments.parser("sweep", DESCRIPTION, EPILOG)
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a sweep file, and what it accepts")
    parser.add_argument("--workdir", help="folder of the sweep: its runs, and what they cost")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="with --dry_run: one JSON array on standard output")
    places = ("local", "here", "slurm", "tpu", "gke")
    parser.add_argument("--where", choices=places, default="local", help="see below (default: local)")
    parser.add_argument("--only", metavar="RUNS", help="names, or their last 8 characters, joined by commas")
    parser.add_argument("--skip", metavar="RUNS", help="leaves these out, likewise")
    parser.add_argument("--take", type=int, metavar="N", help="of the runs of --only the one with this number, from 0")
    parser.add_argument("--retry", action="store_true", help="try runs again whose loss diverged")
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="train up to N runs that differ in numbers alone as one program, as far as memory allows (default: 1)",
    )
    parser.add_argument("--parallel", type=int, default=0, metavar="N", help="jobs at once (default: all)")
    parser.add_argument("--supervised", type=int, default=0, metavar="PID", help=argparse.SUPPRESS)
    arguments.add_distributed(parser)
    return parser


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _show(rows: "Sequence[SweepRow]", as_json: bool) -> None:
    from vit_jax.pages import text_table
    from vit_jax.scaling import sweep_table, totals

    if as_json:
        print(json.dumps([row.to_json() for row in rows]))
        return
    print(text_table(sweep_table(rows)))
    print(totals(rows), flush=True)


def _supervise(flags: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Runs the sweep in another process, which is ours but for `--where`."""
    from vit_jax.scaling import supervise

    given = [f"--config={flags.config}", f"--workdir={flags.workdir}", "--where=here", "--distributed=off"]
    given += [f"--together={flags.together}", f"--supervised={os.getpid()}"]
    given += [f"--{name}={value}" for name in ("only", "take") if (value := getattr(flags, name)) is not None]
    given += ["--retry"] * flags.retry

    def command(lost: Sequence[str]) -> list[str]:
        skipped = ",".join([*(flags.skip.split(",") if flags.skip else []), *lost])
        skip = [f"--skip={skipped}"] if skipped else []
        return [sys.executable, "-m", "vit_jax", "sweep", *given, *skip, *overrides]

    return supervise(command, Path(flags.workdir))


def _run(flags: argparse.Namespace, sweep: "Sweep", only: "frozenset[str] | None", distributed: bool) -> int:
    """Runs what is missing in this process."""
    from vit_jax import parallel
    from vit_jax.scaling import Runner, Scope, Stopping, choose_runs, end_with_parent, read_study
    from vit_jax.train import Reporter

    if flags.supervised:
        end_with_parent(flags.supervised)
    runner = Runner(
        sweep,
        Path(flags.workdir),
        Scope(only, flags.retry, flags.together),
        Reporter(parallel.is_main()),
        distributed,
    )
    with contextlib.nullcontext() if distributed else Stopping():
        runner.run()
    study, chosen = read_study(flags.workdir), choose_runs(sweep, flags.only, flags.take)  # those of --skip count, too
    if parallel.is_main():
        _summarise(study, chosen)
    return exit_status(study, chosen)


def exit_status(study: "Study", only: "frozenset[str] | None" = None) -> int:
    """0 if all is done, else that of the first run that failed; 42 if some wait for others."""
    from vit_jax.errors import EXIT_OK, EXIT_RESUMABLE

    runs = [run for run in study.runs if only is None or run.cost.name in only]
    failed = [run.exit_status for run in runs if run.status == "failed"]
    return (failed or [EXIT_OK if all(run.status == "done" for run in runs) else EXIT_RESUMABLE])[0]


def _summarise(study: "Study", only: "frozenset[str] | None" = None) -> None:
    from vit_jax.scaling import summary

    print(f"\n{summary(study)}", file=sys.stderr)
    for run in study.runs:
        if run.status == "failed" and (only is None or run.cost.name in only):
            print(f"{run.cost.name} failed: {run.error}", file=sys.stderr)


def _status(argv: Sequence[str]) -> int:
    """`vit_jax sweep status`."""
    parser = arguments.parser("sweep status", STATUS)
    parser.add_argument("--workdir", required=True, help="folder of the sweep")
    parser.add_argument("--json", action="store_true", help="one JSON array on standard output")
    flags, overrides = arguments.parse(parser, argv)
    if overrides:
        parser.error(f"unknown argument {overrides[0]!r}: looking changes no setting")

    from vit_jax.pages import text_table
    from vit_jax.scaling import flat_row, read_study, status_table, summary

    study = read_study(flags.workdir)
    if flags.json:
        print(json.dumps([flat_row(run) for run in study.runs]))
        return 0
    print(text_table(status_table(study)))
    print(summary(study))
    return 0
