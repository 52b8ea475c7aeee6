"""`vit_jax export`."""

from collections.abc import Sequence
from pathlib import Path

from vit_jax.cli import arguments

DESCRIPTION = """\
Writes weights in a published format, from our checkpoints or from any file this can read, with the pre-processing they
expect, the class names and a model card.

  vit_jax export --checkpoint=w --format=npz --output=vit.npz
  vit_jax export --checkpoint=w --format=huggingface --output=vit_hf/
  vit_jax export --checkpoint=ViT-B_16.npz --image_size=384 --format=onnx --output=vit_onnx/

formats:
  npz          the layout of the ViT, hybrid and BiT files Google released: vision_transformer, big_vision, timm
  timm         a folder for timm.create_model("local-dir:..."), and for transformers through timm
  huggingface  a folder for transformers' ViT and BiT models
  stablehlo    the program for JAX, any batch size; runs without vit_jax
  savedmodel   the program for TensorFlow, any batch size
  onnx         the program for onnxruntime and others, any batch size

Programs are run once after writing and compared with the model before they appear."""

# Functions of the checkpoint room.
FORMATS = {
    "npz": "export_npz_folder",
    "timm": "export_timm",
    "huggingface": "export_huggingface",
    "stablehlo": "export_stablehlo",
    "savedmodel": "export_saved_model",
    "onnx": "export_onnx",
}


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("export", DESCRIPTION)
    arguments.add_checkpoint(parser)
    parser.add_argument("--format", choices=tuple(FORMATS), default="npz", help="default: npz")
    parser.add_argument(
        "--output", required=True, metavar="PATH", help="a new folder; for npz also FILE.npz, written with FILE.json"
    )
    flags, overrides = arguments.parse(parser, argv)

    for text in overrides:
        if not text.startswith(("--config.model.", "--noconfig.model.")):
            parser.error(f"unknown argument {text!r}: exporting reads no data and has no mesh")

    from vit_jax import checkpoint
    from vit_jax.cli.weights import open_weights

    weights, _ = open_weights(flags, overrides)
    export = getattr(checkpoint, FORMATS[flags.format])
    for path in export(weights.params, weights.metadata, Path(flags.output)):
        print(path)
    return 0
