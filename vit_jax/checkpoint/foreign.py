"""Weights in the formats that others publish: which format, which model, and whether all of it is there."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.checkpoint.archives import read_arrays, read_json
from vit_jax.checkpoint.card import PREPROCESSING
from vit_jax.checkpoint.infer import infer_model
from vit_jax.checkpoint.layouts import LAYOUTS, Arrays, Hints, Layout, from_file, their_names
from vit_jax.checkpoint.layouts.rules import Read, tree
from vit_jax.checkpoint.metadata import Metadata
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import Model, Params
from vit_jax.settings import to_dict

IMAGENET_21K_CLASSES = 21_843  # its images have several labels, and models are trained on it with a sigmoid loss
RELEASED = ("released npz", "BiT npz")
_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file holds.

    Attributes:
      params: nested dicts of float32 NumPy arrays.
      model: that they belong to.
      layout: their format's name.
      hints: what the file said beyond the arrays.
      ignored: names of arrays that are no parameters, such as optimizer state.
      assumed: what neither the arrays nor a config beside them say.
      loss: that the classifier was trained with, where a file beside says it.
    """

    params: Params
    model: Model
    layout: str
    hints: Hints
    ignored: list[str]
    assumed: tuple[str, ...] = ()
    loss: str | None = None


def read_foreign(
    path: Path,
    settings: Mapping[str, Any],
    model: Model | None = None,
    image_size: tuple[int, int] | None = None,
) -> Found:
    """Reads a file or folder of a published format.

    Args:
      path: an npz or safetensors file, or a folder with `model.safetensors` and `config.json`.
      settings: of the model, where the file does not tell them; they win over what it tells.
      model: what the arrays must be of; by default that is inferred from their shapes.
      image_size: (height, width), where neither the file nor the number of its position embeddings tells it.

    Raises:
      UserError: it is damaged, of an unknown format or of another model, or arrays are missing or too many.
    """
    return interpret(read_arrays(path), _config(path), str(path), settings, model, image_size)


def _config(path: Path) -> dict[str, Any]:
    """`config.json` beside the arrays; under `preprocessor` and `preprocessing` the other files that tell of them."""
    folder = path if path.is_dir() else path.parent
    if path.suffix == ".npz" or not (folder / "config.json").is_file():
        return {}
    config = read_json(folder / "config.json")
    for key, name in (("preprocessor", "preprocessor_config.json"), ("preprocessing", PREPROCESSING)):
        if (folder / name).is_file():
            config[key] = read_json(folder / name)
    return config


def interpret(
    arrays: Arrays,
    config: Mapping[str, Any],
    where: str,
    settings: Mapping[str, Any],
    model: Model | None = None,
    image_size: tuple[int, int] | None = None,
) -> Found:
    """`read_foreign` for arrays and config that have been read."""
    layout = next((layout for layout in LAYOUTS if layout.recognises(set(arrays))), None)
    if layout is None:
        known = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
        few = ", ".join(sorted(arrays)[:_SHOWN])
        raise UserError(f"{where} has none of the formats {known}; its arrays are called {few}, ...")
    canonical, ignored = layout.canonical(arrays, config)
    hints = layout.hints(canonical, config)
    hints = dataclasses.replace(hints, settings={**hints.settings, **settings})
    read = from_file(canonical, layout.rules, _sizes(layout, hints, where))
    shapes = {name: array.shape for name, array in read.named.items()}
    if read.problems:
        raise UserError(f"{where} ({layout.name}) is incomplete or damaged: {_few(read.problems)}")
    model = model or infer_model(shapes, hints, where, image_size)
    _check(read, model, layout, where)
    assumed = _assumed(hints, settings, shapes, config, layout)
    return Found(tree(read.named), model, layout.name, hints, ignored, assumed, _loss(config))


def _assumed(
    hints: Hints, given: Mapping[str, Any], shapes: Mapping[str, Any], config: Mapping[str, Any], layout: Layout
) -> tuple[str, ...]:
    """What was taken to be so: the habits of a format whose config is not there, and mean pooling."""
    told = {name: value for name, value in hints.settings.items() if name not in given}
    assumed = []
    if layout.name not in RELEASED and not config:
        assumed = [f"{name}={value}" for name, value in told.items()] + ["pixels in [-1, 1] (there is no config.json)"]
    elif "embedding/kernel" in shapes and not {"cls", "map_head/probe"} & set(shapes) and "pool" not in hints.settings:
        assumed = ["pool=gap"]
    return tuple(assumed)


def _loss(config: Mapping[str, Any]) -> str | None:
    """`softmax` or `sigmoid`, where our `preprocessing.json` or Hugging Face's `problem_type` says it."""
    of_problem = {"multi_label_classification": "sigmoid", "single_label_classification": "softmax"}
    beside = config.get("preprocessing", {}).get("logits_to_probabilities")
    return beside if beside in of_problem.values() else of_problem.get(str(config.get("problem_type")))


def _sizes(layout: Layout, hints: Hints, where: str) -> dict[str, int]:
    """Of the axes that the format's arrays have merged.

    Raises:
      BadSetting, UserError: they are the heads, and their number is wrong or nowhere told.
    """
    heads = hints.settings.get("heads")
    if heads is None:
        if any("k e" in rule.pattern for rule in layout.rules):
            raise UserError(f"{where} ({layout.name}) does not tell the number of attention heads: give model.heads")
        return {}
    if type(heads) is not int or heads < 1:
        raise BadSetting("heads", heads, "must be a whole number of at least 1")
    return {"k": heads}


def _check(read: Read, model: Model, layout: Layout, where: str) -> None:
    """Raises UserError that lists what is missing, surplus or of another shape, by the names of the file."""
    found = _by_their_names({name: array.shape for name, array in read.named.items()}, layout)
    wanted = _by_their_names(model.shapes, layout)
    missing = [name for name in wanted if name not in found]
    surplus = read.surplus + [name for name in found if name not in wanted]
    wrong = [
        f"{name} is {_text(found[name])}, not {_text(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    parts = [
        f"{word} {_few(names)}"
        for word, names in (("it lacks", missing), ("it has besides", surplus), ("shapes differ (ours):", wrong))
        if names
    ]
    if parts:
        raise UserError(f"{where} ({layout.name}) does not fit {model.settings.variant}: {'; '.join(parts)}")


def _by_their_names(shapes: Mapping[str, tuple[int, ...]], layout: Layout) -> dict[str, tuple[int, ...]]:
    """Our shapes, those of stacked parameters by layer, under the names of the file."""
    result = {}
    for ours, shape in shapes.items():
        theirs = their_names(ours, shape[0] if shape else 0, layout.rules)
        alone = theirs == their_names(ours, 0, layout.rules)
        result.update(dict.fromkeys(theirs, shape if alone else shape[1:]))
    return result


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def describe_foreign(found: Found) -> Metadata:
    """Metadata in the form of our own checkpoints, as far as the file tells.

    Classes without names are called `class 0` and so on. Images are resized straight to the model's size unless the
    file says otherwise: that is how the released models were evaluated.
    """
    model, hints = found.model, found.hints
    names = hints.label_names or tuple(f"class {i}" for i in range(model.classes))
    if len(names) != model.classes:
        raise UserError(f"the file's config names {len(names)} classes, and its classifier has {model.classes}")
    config = {
        "model": to_dict(model.settings),
        "data": {
            "image_size": list(model.image_size),
            "channels": model.channels,
            "eval_preprocess": hints.eval_preprocess or "decode|resize",
        },
        "train": {"loss": found.loss or ("sigmoid" if model.classes == IMAGENET_21K_CLASSES else "softmax")},
    }
    return Metadata(model, names, config)


def own_params(arrays: Arrays, layout: Layout, model: Model, where: str) -> Params:
    """The parameters of a model that is known, from arrays in a layout that is known.

    Raises:
      UserError: arrays are missing, surplus or of another shape.
    """
    read = from_file(layout.canonical(arrays, {})[0], layout.rules, {})
    if read.problems:
        raise UserError(f"{where} is incomplete or damaged: {_few(read.problems)}")
    _check(read, model, layout, where)
    return tree({name: np.asarray(read.named[name]) for name in model.shapes})
