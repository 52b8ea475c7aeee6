"""`vit_jax launch`."""

import importlib
from collections.abc import Sequence

from vit_jax.cli import arguments
from vit_jax.errors import UserError, did_you_mean

PLACES = {
    "local": "processes on this machine",
    "slurm": "a SLURM cluster: one job, or an array of jobs",
    "tpu": "Cloud TPU slices as queued resources, through gcloud",
    "gke": "TPU slices of a GKE cluster, as a JobSet through kubectl, or through xpk",
}

DESCRIPTION = """\
Runs a verb on many processes, streams what they print, and starts them again when they may go on.

  vit_jax launch local --processes=2 -- train --config=configs/digits.py --workdir=w
  vit_jax launch slurm --nodes=2 --gpus_per_node=8 --dry_run -- train --config=... --workdir=...

`vit_jax launch <where> --help` lists the flags of a place. What follows -- is the verb and its flags, as in
`vit_jax <verb> ...`. Restarted are exit status 42 (stopped and saved) and 128 to 255 (killed, preempted, a peer was
lost); 0 is done, 1 to 4 are final. --dry_run prints everything that would be done, as a shell script."""

EPILOG = "where:\n" + "\n".join(f"  {name:<6} {about}" for name, about in PLACES.items())


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    ours, verb = _split(list(argv))
    parser = arguments.parser("launch", DESCRIPTION, EPILOG)
    if not ours or ours[0].startswith("-"):
        parser.add_argument("where", metavar="WHERE", help=", ".join(PLACES))
        parser.add_argument("--dry_run", "--dry-run", action="store_true", help="print what would be done")
        parser.parse_args(ours)
    if ours[0] not in PLACES:
        raise UserError(f"unknown place {ours[0]!r}; {did_you_mean(ours[0], PLACES)}")
    from vit_jax.launch import flags

    place = importlib.import_module(f"vit_jax.launch.{ours[0]}")
    parser = arguments.parser(f"launch {ours[0]}", place.__doc__ or "", arguments.EXIT_HELP)
    flags.add(parser, place.Settings)
    settings = flags.build(place.Settings, parser.parse_args(ours[1:]))
    _check(verb)
    return place.launch(settings, verb)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and after the first `--`."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _check(verb: Sequence[str]) -> None:
    from vit_jax.__main__ import VERBS

    known = sorted(set(VERBS) - {"launch"})
    if not verb:
        raise UserError("nothing to run; write -- and a verb with its flags, for example -- train --config=...")
    if verb[0] not in known:
        raise UserError(f"{verb[0]!r} after -- is no verb to launch; {did_you_mean(verb[0], known)}")
