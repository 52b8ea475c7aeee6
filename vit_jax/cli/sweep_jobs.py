"""`vit_jax sweep --where=slurm|tpu|gke`: the jobs of a sweep, through `vit_jax launch`."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit_jax.cli import launch as launch_verb
from vit_jax.errors import EXIT_OK, UserError

if TYPE_CHECKING:
    from vit_jax.scaling import RunCost, Sweep, SweepRow


def launch(
    flags: argparse.Namespace,
    sweep: "Sweep",
    rows: "Sequence[SweepRow]",
    costs: "Sequence[RunCost]",
    overrides: Sequence[str],
    after: Sequence[str],
) -> int:
    """Submits a job for each row that is not done; with --dry_run shows what would be submitted.

    Args:
      flags: of the command line.
      sweep: all of it.
      rows: what was chosen of it.
      costs: of all runs.
      overrides: `--config.<key>=<value>`.
      after: flags of the launcher.

    Raises:
      UserError: a flag that the sweep itself has to set.
    """
    from vit_jax.pages import text_table
    from vit_jax.scaling import save_sweep, sweep_table, totals

    for flag in ("--array", "--name") if flags.where == "slurm" else ("--array",):
        if any(text.partition("=")[0] == flag for text in after):
            raise UserError(f"{flag} after --: the sweep sets it itself; --parallel=N limits the jobs at once")
    missing = [row for row in rows if not _is_done(flags.workdir, row)] if flags.workdir else list(rows)
    # Standard output is a script that can be run.
    print(*(f"# {line}" for line in [*text_table(sweep_table(rows)).splitlines(), totals(rows)]), sep="\n")
    if not missing:
        print("# all of it is done")
        return EXIT_OK
    if flags.where == "slurm" and not flags.dry_run:
        save_sweep(flags.workdir, sweep, costs)
    workdir = os.path.abspath(flags.workdir) if flags.workdir else "WORKDIR"
    verb = ["sweep", f"--config={flags.config}", f"--workdir={workdir}", "--where=here", f"--together={flags.together}"]
    verb += [*(["--retry"] if flags.retry else []), *overrides]
    ends = [row.cost.name[-8:] for row in missing]
    if flags.where == "slurm":
        limit = f"%{flags.parallel}" if flags.parallel else ""
        array = f"--array=0-{len(ends) - 1}{limit}"
        dry = ["--dry_run"] * flags.dry_run
        return launch_verb.main(
            ["slurm", array, *dry, *after, "--", *verb, f"--only={','.join(ends)}", "--take={index}"]
        )
    return _one_job_each(flags, ends, verb, after)


def _is_done(workdir: str, row: "SweepRow") -> bool:
    from vit_jax.scaling import run_folder, run_status

    return all(run_status(run_folder(workdir, cost.name))[0] == "done" for cost in (row.cost, *row.transfers))


def _one_job_each(flags: argparse.Namespace, ends: Sequence[str], verb: Sequence[str], after: Sequence[str]) -> int:
    """TPU slices and JobSets have a name each, so that the same command finds them again."""
    from vit_jax.launch.many import run_all

    names = [text.partition("=")[2] for text in after if text.startswith("--name=")]
    prefix = names[-1] if names else re.sub(r"[^a-z0-9]+", "-", Path(flags.config.partition(":")[0]).stem.lower())[:20]
    rest = [text for text in after if not text.startswith("--name=")]
    commands = {end: [flags.where, f"--name={prefix}-{end}", *rest, "--", *verb, f"--only={end}"] for end in ends}
    if flags.dry_run:
        for end, command in commands.items():
            print(f"# --- {end}", flush=True)
            launch_verb.main([command[0], "--dry_run", *command[1:]])
        return EXIT_OK
    ended = run_all({end: ["launch", *command] for end, command in commands.items()}, flags.parallel or len(commands))
    return next((status for status in ended.values() if status), EXIT_OK)
