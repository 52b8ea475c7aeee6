"""`vit_jax report`."""

import json
from collections.abc import Sequence
from pathlib import Path

from vit_jax.cli import arguments

DESCRIPTION = """\
Writes what a sweep found out, so far or in the end: a table of all runs, accuracy against compute with fitted curves
and the Pareto front, how much compute a family of models saves at equal accuracy, learning curves.

  vit_jax report --workdir=study              # study/report/report.html, .md, runs.csv and pictures
  vit_jax report --workdir=study --paper      # with the ViT paper's table 6 in the same pictures"""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("report", DESCRIPTION)
    parser.add_argument("--workdir", required=True, help="folder of the sweep")
    parser.add_argument("--output", help="folder for the report (default: <workdir>/report)")
    parser.add_argument("--paper", action="store_true", help="draw the runs of the ViT paper's table 6, too")
    parser.add_argument("--json", action="store_true", help="also print the runs, one JSON array on standard output")
    flags, overrides = arguments.parse(parser, argv)
    if overrides:
        parser.error(f"unknown argument {overrides[0]!r}: a report changes no setting")

    from vit_jax.scaling import REPORT, flat_row, read_study, write_report

    study = read_study(flags.workdir)
    report = write_report(study, flags.output or Path(flags.workdir) / REPORT, paper=flags.paper)
    if flags.json:
        print(json.dumps([flat_row(run) for run in study.runs]))
    else:
        print("\n".join([*report.sentences, "", *map(str, report.files)]))
    return 0
