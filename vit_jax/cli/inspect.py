"""`vit_jax inspect`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit_jax.cli import arguments

if TYPE_CHECKING:
    import numpy as np

    from vit_jax.inspect import Album
    from vit_jax.train import RunSettings

DESCRIPTION = """\
Draws what a model has learned: PNGs, one page (index.html) that shows and explains them, and the numbers behind them
(numbers.json).

  vit_jax inspect --checkpoint=w --output=pictures
  vit_jax inspect --checkpoint=ViT-B_16.npz --output=pictures --images cat.jpg dog.png
  vit_jax inspect --checkpoint=w --output=pictures --only=distance,heads --layers=1,6,12 --split=train --json

pictures:
  filters    principal components of the patch embedding; the root's filters of hybrids and ResNets
  positions  similarity of position embeddings
  distance   mean attention distance of every head by depth, over --count images
  rollout    what reaches the output, over the images
  heads      what each head of some layers attends to in some images"""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("inspect", DESCRIPTION)
    arguments.add_checkpoint(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder, or one this wrote before")
    parser.add_argument("--images", nargs="+", metavar="FILE", help="image files to look at, in place of a data set's")
    parser.add_argument("--split", help="split expression of the run's data set (default: its evaluation split)")
    parser.add_argument("--count", type=int, default=128, help="images taken from the split, evenly (default: 128)")
    parser.add_argument("--only", type=_words, default=(), help="some of the pictures above, joined by commas")
    parser.add_argument("--layers", type=_numbers, default=(), help="layers of heads, from 1 (default: up to four)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder with other files, too")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    flags, overrides = arguments.parse(parser, argv)
    if flags.count < 1:
        parser.error(f"--count={flags.count}: must be at least 1")
    if flags.images and flags.split:
        parser.error("give --images or --split, not both")

    from vit_jax.cli.weights import mesh_of, open_weights, params_on, settings_of
    from vit_jax.errors import BadSetting
    from vit_jax.inspect import SHOWN, check_folder, check_layers, pictures, wanted

    weights, overrides = open_weights(flags, overrides)
    model, settings = weights.metadata.model, settings_of(weights, overrides)
    try:
        kinds = wanted(model, flags.only)
        check_layers(model, flags.layers)
    except BadSetting as error:
        raise BadSetting(f"--{error.field}", error.value, error.fix) from None
    mesh, output = mesh_of(settings), Path(flags.output)
    has_data = any(text.startswith("--config.data.name=") for text in overrides)
    has_data = has_data or "name" in weights.metadata.config.get("data", {})
    check_folder(output, flags.overwrite)
    images, names = _images(flags, settings, kinds, has_data)
    album = pictures(
        model,
        params_on(mesh, weights),
        images,
        output,
        only=flags.only,
        layers=flags.layers,
        names=names,
        shown=len(flags.images or ()) or SHOWN,
        mesh=mesh,
        about={"checkpoint": str(weights.source), "step": weights.metadata.step},
        overwrite=flags.overwrite,
    )
    _print(album, flags.json)
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers such as 1,6,12") from None


def _images(
    flags: argparse.Namespace, settings: "RunSettings", kinds: Sequence[str], has_data: bool
) -> "tuple[np.ndarray | None, list[str]]":
    """(uint8 images, their names); None where nothing asks for images, or there is no data set to take them from."""
    from vit_jax.data import decode_files
    from vit_jax.errors import UserError
    from vit_jax.inspect import OF_IMAGES, spread_images
    from vit_jax.train import open_split

    if not set(kinds) & set(OF_IMAGES):
        return None, []
    if flags.images:
        return decode_files(flags.images, settings.data), [Path(path).name for path in flags.images]
    if not has_data and not flags.split:
        if flags.only:
            raise UserError(f"--only={','.join(flags.only)}: the file names no data set; give --images or --split")
        return None, []
    split = flags.split or settings.evaluate.split or settings.data.train_split
    return spread_images(open_split(settings, split, "--split"), flags.count)


def _print(album: "Album", as_json: bool) -> None:
    if as_json:
        found = {"page": str(album.page), "files": [str(file) for file in album.files], "absent": dict(album.absent)}
        print(json.dumps(found))
        return
    for kind, why in album.absent.items():
        print(f"no {kind}: {why}", file=sys.stderr)
    print(*album.files, sep="\n")
