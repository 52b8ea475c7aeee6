"""`vit_jax export`."""

from collections.abc import Sequence

from vit_jax.cli import arguments

DESCRIPTION = """\
Writes the weights of a checkpoint in a published format, with config and label names beside them.

  vit_jax export --checkpoint=w --format=npz --output=vit.npz

npz is the layout of the ViT files Google released: vision_transformer, big_vision and timm read it."""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("export", DESCRIPTION)
    arguments.add_checkpoint(parser)
    parser.add_argument("--format", choices=("npz",), default="npz", help="default: npz")
    parser.add_argument("--output", required=True, metavar="FILE", help="ends in .npz; FILE's .json goes beside it")
    flags, overrides = arguments.parse(parser, argv)
    if overrides:
        parser.error(f"unknown argument {overrides[0]!r}: the checkpoint fixes its config")

    from pathlib import Path

    from vit_jax.checkpoint import export_npz, load_weights

    weights = load_weights(flags.checkpoint, flags.step)
    for path in export_npz(weights.params, weights.metadata, Path(flags.output)):
        print(path)
    return 0
