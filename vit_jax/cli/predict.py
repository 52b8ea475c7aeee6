"""`vit_jax predict`."""

import dataclasses
import json
from collections.abc import Sequence

from vit_jax.cli import arguments

DESCRIPTION = """\
The most probable classes of image files (PNG, JPEG, BMP, GIF), pre-processed as in evaluation.

  vit_jax predict --checkpoint=w image1.png image2.jpg"""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("predict", DESCRIPTION)
    arguments.add_checkpoint(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=5, help="classes shown for each image (default: 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    flags, overrides = arguments.parse(parser, argv)
    if flags.top < 1:
        parser.error(f"--top={flags.top}: must be at least 1")

    from vit_jax.cli.weights import open_weights, settings_of
    from vit_jax.data import decode_files
    from vit_jax.evaluate import predict

    weights, overrides = open_weights(flags, overrides)
    images = decode_files(flags.images, settings_of(weights, overrides).data)
    for path, predictions in zip(flags.images, predict(weights, images, flags.top), strict=True):
        if flags.json:
            print(json.dumps({"image": path, "predictions": [dataclasses.asdict(p) for p in predictions]}))
        else:
            print(path)
            width = max(len(p.label) for p in predictions)
            for p in predictions:
                print(f"  {p.label:<{width}}  {p.probability:7.2%}")
    return 0
