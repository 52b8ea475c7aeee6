"""`vit_jax prepare`."""

from collections.abc import Sequence

from vit_jax.cli import arguments

DESCRIPTION = """\
Puts a TFDS data set on the disk, downloading it if it is not embedded. Training never downloads by itself.

  vit_jax prepare digits
  vit_jax prepare cifar10 --data_dir=/data
  vit_jax prepare imagenet21k --manual_dir=/archives     # from files that have to be fetched by hand

vit_jax data --catalog lists the data sets of the ViT paper and how each is prepared."""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("prepare", DESCRIPTION)
    parser.add_argument("name", help="TFDS name; `digits` is embedded and needs no network")
    parser.add_argument("--data_dir", help="where to (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    parser.add_argument("--manual_dir", help="folder with the files that have to be fetched by hand, where some do")
    flags, overrides = arguments.parse(parser, argv)
    if overrides:
        parser.error(f"unknown argument {overrides[0]!r}")

    from vit_jax.data import prepare

    splits = prepare(flags.name, flags.data_dir, flags.manual_dir)
    print(f"{flags.name}: " + ", ".join(f"{split} {examples:,}" for split, examples in splits.items()))
    return 0
