"""Loading weights: what was trained here, exported, or published by others."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.checkpoint.adapt import Report, adapt
from vit_jax.checkpoint.archives import read_arrays, read_json
from vit_jax.checkpoint.foreign import describe_foreign, own_params, read_foreign
from vit_jax.checkpoint.metadata import Metadata, check_same_shapes
from vit_jax.checkpoint.npz import npz_layout
from vit_jax.checkpoint.published import find_published
from vit_jax.checkpoint.remote import fetch
from vit_jax.checkpoint.training import read_metadata, read_params
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import Params
from vit_jax.trees import named_leaves

CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Weights:
    """A model ready to use.

    Attributes:
      params: nested dicts of arrays on the host; the averaged ones if the run kept an average.
      metadata: what they belong to.
      source: the file or folder they came from.
      averaged: whether they are the average.
      report: what became of each array.
      layout: the format they had; empty for our own checkpoints and exports.
    """

    params: Params
    metadata: Metadata
    source: Path
    averaged: bool = False
    report: Report = Report()
    layout: str = ""


def load(
    path_or_name: str | os.PathLike,
    step: int | None = None,
    *,
    image_size: int | Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Weights:
    """Loads weights of any format this knows, and says in `Weights.report` what became of each array.

    Recognised by content: a workdir, one of its checkpoints (`w`, `w/checkpoints`, `w/checkpoints/500`), our exports
    (`w/export/model.npz`), the npz files Google released for ViTs, hybrids and BiT ResNets in all their dialects,
    safetensors files and folders of timm and Hugging Face. Pickles are never opened.

    Args:
      path_or_name: a path; `https://...`, `gs://...` or `hf://owner/name`, which are downloaded once; or the name of a
        published file such as `imagenet21k/ViT-B_16`, see `vit_jax models`.
      step: which save of a workdir; by default the newest.
      image_size: (height, width), or the side of a square, to adapt the model to; position embeddings are resized as
        the released code does. If a file does not tell its own size, this is taken for it.
      settings: of the model where a published file does not tell them, such as {"heads": 12}.

    Raises:
      UserError: there is nothing to load, or it is damaged, incomplete or of an unknown kind.
      BadSetting: an argument is wrong, or settings are given for a model of ours, which says what it is.
    """
    image_size = None if image_size is None else _height_width(image_size)
    where = _located(path_or_name)
    where = where / "model.npz" if (where / "model.npz").is_file() else where
    if (folder := _save_of(where, step)) is not None:
        weights = _load_save(folder)
    elif step is not None:
        raise BadSetting("step", step, f"{str(where)!r} is no workdir with checkpoints to choose from")
    elif where.suffix == ".npz" and _described(where.with_suffix(".json")):
        weights = _load_own(where)
    else:
        found = read_foreign(where, settings or {}, image_size=image_size)
        report = Report(loaded=tuple(found.model.shapes), ignored=tuple(found.ignored), assumed=found.assumed)
        weights = Weights(found.params, describe_foreign(found), where, report=report, layout=found.layout)
    if settings and not weights.layout:
        raise BadSetting("settings", dict(settings), f"{str(where)!r} says itself what its model is; leave them out")
    return weights if image_size is None else at_size(weights, image_size)


def _height_width(value: int | Sequence[int]) -> tuple[int, int]:
    sides = (value, value) if isinstance(value, int) else tuple(value)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise BadSetting("image_size", value, "write (height, width), or one number for a square")
    return sides


def _described(path: Path) -> bool:
    """Whether this is the description that our exports have beside them, not somebody's other JSON."""
    return path.is_file() and "schema_version" in read_json(path)


def at_size(weights: Weights, image_size: tuple[int, int]) -> Weights:
    """The same model for images of another (height, width)."""
    about = weights.metadata
    target = dataclasses.replace(about.model, image_size=image_size)
    params, report = adapt(weights.params, about.model, target)
    config = {**about.config, "data": {**about.config.get("data", {}), "image_size": list(image_size)}}
    metadata = dataclasses.replace(about, model=target, config=config)
    before = weights.report
    report = dataclasses.replace(report, ignored=before.ignored + report.ignored, assumed=before.assumed)
    return dataclasses.replace(weights, params=params, metadata=metadata, report=report)


def _located(path_or_name: str | os.PathLike) -> Path:
    """A path on this machine."""
    text = os.fspath(path_or_name)
    path = os.path.expanduser(text)
    if os.path.exists(path):
        return Path(path)
    if "://" not in text:
        published = find_published(text)
        if published is None:
            fix = "give a workdir, a checkpoint folder, a file, an address, or a name that `vit_jax models` lists"
            raise UserError(f"checkpoint {text!r} does not exist: {fix}")
        text = published.location
    if text.startswith("hf://") and text.endswith(".safetensors"):
        for beside in ("config.json", "preprocessor_config.json"):  # what the arrays do not say
            with contextlib.suppress(UserError):
                fetch(f"{text.rpartition('/')[0]}/{beside}")
    return fetch(text)


def _save_of(where: Path, step: int | None) -> Path | None:
    """The folder of a save of ours; None if `where` is something else.

    Raises:
      UserError: it is a workdir without saves, or without that step.
    """
    if not where.is_dir():
        return None
    if (where / "metadata").is_dir():
        return where if step is None else None
    folder = where / CHECKPOINTS if (where / CHECKPOINTS).is_dir() else where
    steps = sorted(int(d.name) for d in folder.iterdir() if d.name.isdecimal() and (d / "metadata").is_dir())
    if not steps:
        if any(folder.glob("*.safetensors*")):
            return None
        pickles = [file.name for kind in ("*.bin", "*.pt", "*.pth") for file in folder.glob(kind)]
        if pickles:
            fix = "convert it to safetensors where it was made, and load that"
            raise UserError(
                f"{str(where)!r} holds the pickle {pickles[0]}, which could run any code when loaded: {fix}"
            )
        raise UserError(f"{str(where)!r} holds no complete checkpoint yet: train it first, or name another")
    if step is not None and step not in steps:
        raise UserError(f"{str(where)!r} has no checkpoint of step {step}; it has {steps}")
    return folder / str(steps[-1] if step is None else step)


def _load_save(directory: Path) -> Weights:
    metadata = Metadata.from_json(read_metadata(directory), f"checkpoint {directory}")
    item = "ema" if (directory / "ema").is_dir() else "params"
    params = read_params(directory, item, metadata.model.abstract_params)
    named = named_leaves(params)
    check_same_shapes({name: leaf.shape for name, leaf in named.items()}, metadata.model.shapes, str(directory))
    broken = [name for name, leaf in named.items() if not np.isfinite(np.asarray(leaf, np.float32)).all()]
    if broken:
        raise UserError(f"checkpoint {directory} has values in {broken[0]} that are not finite: use an earlier one")
    report = Report(loaded=tuple(metadata.model.shapes))
    return Weights(params, metadata, directory, averaged=item == "ema", report=report)


def _load_own(path: Path) -> Weights:
    """An export of ours: the arrays must be exactly those of the model that the json describes."""
    beside = path.with_suffix(".json")
    metadata = Metadata.from_json(read_json(beside), str(beside))
    params = own_params(read_arrays(path), npz_layout(metadata.model), metadata.model, str(path))
    return Weights(params, metadata, path, report=Report(loaded=tuple(metadata.model.shapes)))
