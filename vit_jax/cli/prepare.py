"""`vit_jax prepare`."""

from collections.abc import Sequence

from vit_jax.cli import arguments

DESCRIPTION = """\
Puts a TFDS data set on the disk, downloading it if it is not embedded. Training never downloads by itself.

  vit_jax prepare digits
  vit_jax prepare cifar10 --data_dir=/data"""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("prepare", DESCRIPTION)
    parser.add_argument("name", help="TFDS name; `digits` is embedded and needs no network")
    parser.add_argument("--data_dir", help="where to (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    flags, overrides = arguments.parse(parser, argv)
    if overrides:
        parser.error(f"unknown argument {overrides[0]!r}")

    from vit_jax.data import prepare

    splits = prepare(flags.name, flags.data_dir)
    print(f"{flags.name}: " + ", ".join(f"{split} {examples:,}" for split, examples in splits.items()))
    return 0
