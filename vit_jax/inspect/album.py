"""All pictures of a model in a folder: PNGs, one page that shows them, and the numbers behind them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.errors import BadSetting, UserError
from vit_jax.inspect.attention import attention_maps, attention_statistics
from vit_jax.inspect.chapters import (
    Chapter,
    Shown,
    distance_chapter,
    filters_chapter,
    heads_chapter,
    positions_chapter,
    rollout_chapter,
)
from vit_jax.inspect.choices import OF_IMAGES, absent, check_layers, spread, wanted
from vit_jax.inspect.filters import filter_kernel
from vit_jax.inspect.positions import position_parameters
from vit_jax.models import Model, Params
from vit_jax.pages import Part, Section, Table, html_page
from vit_jax.trees import named_leaves, nested

SHOWN = 8  # images whose attention is drawn
PAGE, NUMBERS = "index.html", "numbers.json"
_MADE_BY = "vit_jax inspect"


@dataclasses.dataclass(frozen=True)
class Album:
    """What was written; empty on other processes than the main one.

    Attributes:
      page: the page that shows everything.
      files: all files, the page first.
      absent: {kind: why the model has nothing to show of it}.
    """

    page: Path
    files: tuple[Path, ...]
    absent: Mapping[str, str]


def check_folder(folder: Path, overwrite: bool = False) -> None:
    """Makes the folder if need be.

    Raises:
      UserError: it holds something that this did not write, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None
    if held and not overwrite and not _is_ours(folder):
        fix = "name a new folder, or pass --overwrite to write among them"
        raise UserError(f"folder {str(folder)!r} holds other files ({held[0]}): {fix}")


def _is_ours(folder: Path) -> bool:
    try:
        found = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("made_by") == _MADE_BY


def pictures(
    model: Model,
    params: Params,
    images: np.ndarray | None,
    folder: Path,
    *,
    only: Sequence[str] = (),
    layers: Sequence[int] = (),
    names: Sequence[str] = (),
    shown: int = SHOWN,
    mesh: Mesh | None = None,
    about: Mapping[str, str | int] | None = None,
    overwrite: bool = False,
) -> Album:
    """Draws what was learned into a folder. In a job of several processes all call it, and the main one writes.

    Args:
      model: of any family.
      params: its parameters; on `mesh`, if that is given.
      images: uint8 (n, h, w, c), the same on every process: attention statistics are over all of them. None, or none
        at all, draws only what needs none.
      folder: new, or written by this before; its files are then replaced.
      only: some of `KINDS`; by default all that the model has.
      layers: counted from 1, whose heads (and position embeddings, where each layer has its own) are drawn; by default
        up to four.
      names: of the images, as many.
      shown: how many images' attention is drawn, evenly spread over `images`.
      mesh: to work on; None takes one device.
      about: lines for the top of the page, such as {"checkpoint": "w", "step": 500}.
      overwrite: write into a folder with other files, too.

    Raises:
      BadSetting: a kind or layer that the model does not have.
      UserError: the folder holds other files or cannot be written.
    """
    kinds, missing, layer_indices = wanted(model, only), absent(model), check_layers(model, layers)
    missing = {} if only else missing
    if images is None or not len(images):
        if only and (needed := [kind for kind in kinds if kind in OF_IMAGES]):
            raise BadSetting("only", needed[0], "needs images")
        missing |= {kind: "no images were given" for kind in kinds if kind in OF_IMAGES}
        kinds = tuple(kind for kind in kinds if kind not in OF_IMAGES)
    with parallel.together():
        if parallel.is_main():
            check_folder(folder, overwrite)
    chapters = _chapters(model, params, images, kinds, layer_indices, names, shown, mesh)
    head = {"model": model.settings.variant, **(about or {})}
    with parallel.together():
        files = _write(folder, model, head, chapters, missing) if parallel.is_main() else ()
    return Album(folder / PAGE, files, missing)


def _chapters(
    model: Model,
    params: Params,
    images: np.ndarray | None,
    kinds: Sequence[str],
    layers: Sequence[int],
    names: Sequence[str],
    shown: int,
    mesh: Mesh | None,
) -> dict[str, Chapter]:
    """{kind: chapter}; on other processes than the main one what takes several to compute, and no drawing."""
    statistics = maps = None
    if images is not None:
        chosen = spread(len(images), shown)
        if "distance" in kinds:
            statistics = attention_statistics(model, params, images, mesh)
        if "rollout" in kinds or "heads" in kinds:
            titles = [names[i] if names else f"image {i + 1}" for i in chosen]
            maps = Shown(images[chosen], titles, attention_maps(model, params, images[chosen], mesh))
    named, read = named_leaves(params), (filter_kernel(model), *position_parameters(model))
    small = nested(parallel.to_host({name: jnp.asarray(named[name]) for name in read}))
    if not parallel.is_main():
        return {}
    found = {}
    for kind in kinds:
        if kind == "filters":
            found[kind] = filters_chapter(model, small)
        elif kind == "positions":
            found[kind] = positions_chapter(model, small, layers)
        elif kind == "distance" and statistics is not None:
            found[kind] = distance_chapter(model, statistics)
        elif kind == "rollout" and maps is not None:
            found[kind] = rollout_chapter(model, maps)
        elif maps is not None:
            found[kind] = heads_chapter(model, maps, layers)
    return found


def _write(
    folder: Path,
    model: Model,
    about: Mapping[str, str | int],
    chapters: Mapping[str, Chapter],
    missing: Mapping[str, str],
) -> tuple[Path, ...]:
    """Writes all files; first the numbers, which mark the folder as ours, last the page: with it all are there."""
    files = {name: picture.png for chapter in chapters.values() for name, picture in chapter.pictures.items()}
    numbers: dict[str, Any] = {
        "made_by": _MADE_BY,
        **about,
        "image_size": list(model.image_size),
        "grid": list(model.grid),
        "pixels_between_patches": model.stride,
        "pictures": list(files),
        "absent": dict(missing),
        **{kind: chapter.numbers for kind, chapter in chapters.items()},
    }
    page = _page(model, about, chapters, missing).encode()
    contents = {NUMBERS: json.dumps(numbers).encode(), **files, PAGE: page}
    try:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None
    return tuple(folder / name for name in (PAGE, NUMBERS, *files))


def _page(
    model: Model, about: Mapping[str, str | int], chapters: Mapping[str, Chapter], missing: Mapping[str, str]
) -> str:
    size = f"{model.image_size[0]} x {model.image_size[1]} pixels"
    grid = f"{model.grid[0]} x {model.grid[1]} patches, {model.stride} pixels apart"
    facts = {**about, "parameters": f"{model.parameter_count:,}", "images": size, "grid": grid}
    encoder = model.settings.resolved.encoder
    if encoder:
        facts["encoder"] = f"{encoder.depth} layers of {encoder.heads} heads, width {encoder.width}"
    table = Table(("", ""), [(name, str(value)) for name, value in facts.items()])
    lead: list[Part] = [table, "“Paper” is An Image is Worth 16x16 Words, arXiv 2010.11929."]
    sections = [chapter.section for chapter in chapters.values()]
    if missing:
        reasons = dict.fromkeys(missing.values())
        lines = [f"{', '.join(k for k in missing if missing[k] == why)}: {why}." for why in reasons]
        sections.append(Section("Not shown", lines))
    return html_page(f"Inside {model.settings.variant}", sections, lead)
