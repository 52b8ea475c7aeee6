"""Flags the verbs share. Nothing here imports JAX or TensorFlow, so that `--help` is quick."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from vit_jax.errors import BadSetting, UserError

T = TypeVar("T", int, float)

CONFIG_HELP = """\
config keys:
  --config.<key>=<value> changes any setting of the config, whether the file mentions it or not, for example
    --config.model.variant=S/4            --config.train.batch_size=1024
    --config.train.duration='90 epochs'   --config.schedule.learning_rate=3e-4
    --config.data.name=folder             --config.data.data_dir=/images
    --config.mesh.fsdp=4                  --config.mesh.tensor=2
  groups: seed, model, init, data, mesh, compiler, train, optimizer, schedule, masked, checkpoint, evaluate,
  evaluators, inspect, log; a wrong key is answered with the right ones, and --dry_run prints all values.
"""

EXIT_HELP = """\
exit status:
  0 done; 2 bad input; 3 the loss diverged; 4 something could not be saved; 42 stopped and saved, the same command
  resumes; 134 hung, or another process of the job was lost; other: a bug
"""


CHECKPOINT_HELP = """\
a workdir, one of its checkpoints, an export, a .npz that Google released for ViT, hybrid or BiT, a timm or Hugging Face
.safetensors or folder, an https://, gs:// or hf:// address of one, or a name that `vit_jax models` lists; what such a
file does not say can be given as --config.model.<key>=<value>, for example heads"""


class _Parser(argparse.ArgumentParser):
    """Complains in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parser(verb: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser for `vit_jax <verb>`."""
    return _Parser(
        prog=f"vit_jax {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_checkpoint(arguments: argparse.ArgumentParser) -> None:
    """`--checkpoint`, `--step` and `--image_size`."""
    arguments.add_argument("--checkpoint", required=True, metavar="PATH", help=CHECKPOINT_HELP)
    arguments.add_argument("--step", type=int, help="which checkpoint of the workdir (default: the newest)")
    arguments.add_argument(
        "--image_size",
        type=_height_width,
        metavar="N[,M]",
        help="run the model at this size (or height,width); position embeddings are resized",
    )


def _height_width(text: str) -> tuple[int, int]:
    """`384` or `256,512` -> (height, width)."""
    try:
        sides = [int(part) for part in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels or height,width")
    return sides[0], sides[-1]


def numbers(flag: str, text: str, kind: type[T]) -> tuple[T, ...]:
    """`1,5,10` -> (1, 5, 10).

    Raises:
      BadSetting: that is not what the flag's text is.
    """
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise BadSetting(flag, text, f"write numbers ({kind.__name__}) joined by commas") from None


def add_distributed(arguments: argparse.ArgumentParser) -> None:
    """`--distributed` and `--heartbeat_seconds`."""
    arguments.add_argument(
        "--distributed",
        choices=("auto", "on", "off"),
        default="auto",
        help="join the other processes of the job: auto asks the environment (SLURM, TPU pod, launch/local.py)",
    )
    arguments.add_argument(
        "--heartbeat_seconds",
        type=int,
        default=30,
        metavar="N",
        help="give up a process of the job, and with it the job, after this much silence (default: 30)",
    )


def join(flags: argparse.Namespace, workdir: str | None = None) -> bool:
    """Joins the job as `add_distributed`'s flags say, and keeps compiled programs; whether there is a job.

    Args:
      flags: parsed.
      workdir: that all processes see, if there is one.
    """
    from vit_jax import data, parallel

    distributed = parallel.start(flags.distributed, heartbeat_seconds=flags.heartbeat_seconds)
    parallel.keep_compiled((Path(workdir) if distributed and workdir else data.cache_dir()) / "compiled")
    return distributed


def parse(arguments: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """(known flags, `--config.<key>=<value>` overrides); anything else ends with one line and status 2."""
    known, rest = arguments.parse_known_args(argv)
    for text in rest:
        if not text.startswith(("--config.", "--noconfig.")):
            arguments.error(f"unknown argument {text!r}")
    return known, rest
