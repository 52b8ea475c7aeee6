"""`vit_jax train`."""

import json
import sys
from collections.abc import Sequence

from vit_jax.cli import arguments

DESCRIPTION = """\
Trains the model of a config, on every device of the job.

  vit_jax train --config=configs/digits.py --workdir=w

Ctrl-C or SIGTERM saves the state and stops; the same command goes on, bit for bit where it was."""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("train", DESCRIPTION, arguments.CONFIG_HELP + "\n" + arguments.EXIT_HELP)
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a config file, and what it accepts")
    parser.add_argument("--workdir", required=True, help="folder of this run: checkpoints, metrics, exported weights")
    parser.add_argument("--dry_run", action="store_true", help="check everything, print the resolved config, and stop")
    parser.add_argument(
        "--accept_config_change", action="store_true", help="resume although the workdir has another config"
    )
    arguments.add_distributed(parser)
    flags, overrides = arguments.parse(parser, argv)

    import psutil

    from vit_jax import parallel
    from vit_jax.cli.embedded import prepare_embedded
    from vit_jax.config_files import load_settings
    from vit_jax.settings import to_dict
    from vit_jax.train import RunSettings, preflight, train

    settings = load_settings(RunSettings, flags.config, overrides)
    distributed = arguments.join(flags, flags.workdir)
    prepare_embedded(settings)
    if flags.dry_run:
        plan = preflight(settings)
        if parallel.is_main():
            print(json.dumps(to_dict(settings), indent=1))
            print("\n".join(plan.describe()), file=sys.stderr)
        with parallel.together():
            plan.initial()
        return 0
    result = train(
        settings,
        flags.workdir,
        distributed=distributed,
        accept_config_change=flags.accept_config_change,
        began=psutil.Process().create_time(),  # the imports count as part of the run
    )
    if parallel.is_main():
        print(f"done after {result.step} steps; weights in {result.exported[0]}")
    return 0
