"""`vit_jax doctor`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.doctor import Finding

DESCRIPTION = """\
Looks at what a job stands on, and says what to fix: versions, devices, memory, collectives over all devices, clocks;
with --workdir the storage, with --config the input pipeline.

  vit_jax doctor --workdir=/shared/w --config=configs/digits.py
  vit_jax launch slurm --nodes=4 --gpus_per_node=8 -- doctor --workdir=/shared/w     # on every host of a job"""

EPILOG = """\
exit status:
  0 all is well; 1 something is to be fixed; 2 bad input"""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("doctor", DESCRIPTION, EPILOG)
    parser.add_argument("--workdir", type=Path, help="folder of a run; a file is written, read and removed there")
    parser.add_argument("--config", metavar="FILE[:ARG]", help="a config file, whose training data is read")
    parser.add_argument(
        "--images_per_second", type=float, default=0.0, metavar="N", help="that the run needs over all hosts"
    )
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="N", help="seconds that collectives may take (default: 60)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments.add_distributed(parser)
    flags, overrides = arguments.parse(parser, argv)
    if (overrides or flags.images_per_second) and not flags.config:
        parser.error("--config.<key> and --images_per_second need --config")
    if flags.timeout <= 0 or flags.images_per_second < 0:
        parser.error("--timeout must be above 0, and --images_per_second not negative")

    from vit_jax import parallel
    from vit_jax.cli.embedded import prepare_embedded
    from vit_jax.config_files import load_settings
    from vit_jax.doctor import Subject, examine
    from vit_jax.train import RunSettings

    settings = load_settings(RunSettings, flags.config, overrides) if flags.config else None
    parallel.start(flags.distributed, heartbeat_seconds=flags.heartbeat_seconds)
    if settings:
        prepare_embedded(settings)
    findings = examine(Subject(flags.workdir, settings, flags.images_per_second), flags.timeout)
    well = all(finding.ok for finding in findings)
    if parallel.is_main():
        if flags.json:
            print(json.dumps({"ok": well, "findings": [finding.to_json() for finding in findings]}))
        else:
            _print(findings)
    return 0 if well else 1


def _print(findings: "Sequence[Finding]") -> None:
    """A line for each check; where all is well on many processes, what the first one found."""
    wrong = [finding for finding in findings if not finding.ok]
    shown = [finding for finding in findings if finding.process in (None, 0) or not finding.ok]
    others = max((finding.process or 0 for finding in findings), default=0)
    for finding in shown:
        where = f"process {finding.process}: " if others and finding.process is not None else ""
        print(f"{'ok ' if finding.ok else 'FIX'}  {finding.check:<13}  {where}{finding.found}")
        if not finding.ok:
            print(f"     {'':<13}  {finding.fix}")
    print(f"\n{len(wrong)} to fix" if wrong else f"\nall is well{f' on all {others + 1} processes' if others else ''}")
