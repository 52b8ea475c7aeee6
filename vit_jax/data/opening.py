"""From settings to a source: which data set, which part of it, mixed with which others.

`config.data.name` is a data set, or several joined by `+`, each with a weight or none:

    0.7 * imagenet2012 + 0.3 * folder(data_dir="/data/birds", subset="10%")

Arguments in parentheses, all text, take the place of `config.data.<argument>` for that part: `data_dir`, `split` (of
training), `subset`, `image_key`, `label_key`.
"""

import ast
import dataclasses
import re

from vit_jax.data import catalog
from vit_jax.data.files import FolderSource
from vit_jax.data.manifest import ManifestSource
from vit_jax.data.mixture import Mixture
from vit_jax.data.settings import DataSettings
from vit_jax.data.sources import Source, TfdsSource
from vit_jax.data.subset import take_subset
from vit_jax.errors import BadSetting, did_you_mean

_FIELD = "config.data.name"
_HOW = 'write name, or 0.7 * name + 0.3 * name(data_dir="...", split="...")'
_WEIGHT = r"(?:(?P<weight>\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?"
_PART = re.compile(_WEIGHT + r"(?P<name>[^\s()*+][^\s()+]*)\s*(?:\((?P<rest>.*)\))?", re.DOTALL)
_ARGUMENTS = ("data_dir", "image_key", "label_key", "split", "subset")


@dataclasses.dataclass(frozen=True)
class Part:
    """One data set of `config.data.name`."""

    name: str
    weight: float | None
    arguments: dict[str, str]


def parse_name(text: str) -> list[Part]:
    """The data sets that a name joins.

    Raises:
      BadSetting: points at the part and the character where it starts.
    """
    parts, start = [], 0
    for piece in _pieces(text):
        try:
            parts.append(_parse_part(piece.strip()))
        except ValueError as error:
            place = start + len(piece) - len(piece.lstrip()) + 1
            raise BadSetting(_FIELD, text, f"at character {place}, {piece.strip()!r}: {error}") from None
        start += len(piece) + 1
    weighted = [part.weight is not None for part in parts]
    if any(weighted) and not all(weighted):
        raise BadSetting(_FIELD, text, f"part {weighted.index(False) + 1} has no weight: give all parts one, or none")
    return parts


def _pieces(text: str) -> list[str]:
    """`text` cut at each `+` that is outside of quotes and parentheses."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "+" and not depth and not quote:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def _parse_part(text: str) -> Part:
    found = _PART.fullmatch(text)
    if not found:
        raise ValueError(_HOW)
    weight = None if found["weight"] is None else float(found["weight"])
    if weight is not None and not weight > 0:
        raise ValueError("a weight must be more than 0")
    try:
        call = ast.parse(f"f({found['rest'] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        arguments = {k.arg or "**": ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError):
        raise ValueError(_HOW) from None
    for key, value in arguments.items():
        if key not in _ARGUMENTS:
            raise ValueError(f"unknown argument {key}; {did_you_mean(key, _ARGUMENTS)}")
        if not isinstance(value, str):
            raise ValueError(f"{key} = {value!r} must be text in quotes")
    return Part(found["name"], weight, arguments)


def open_source(settings: DataSettings, split: str) -> Source:
    """The examples of a split; of their subset, where the split is the one to train on.

    Raises:
      BadSetting: of `split`, or of a field of `config.data`.
    """
    parts = parse_name(settings.name)
    sources = [_open_part(part, settings, split) for part in parts]
    source = sources[0]
    if len(parts) > 1:
        weights = [part.weight for part in parts if part.weight is not None]
        source = Mixture(sources, weights, settings.union_labels, _FIELD, settings.name)
    return source


def _open_part(part: Part, settings: DataSettings, split: str) -> Source:
    arguments = part.arguments
    training = split == settings.train_split
    split = arguments.get("split", split) if training else split
    data_dir = arguments.get("data_dir", settings.data_dir)
    if part.name == "folder":
        source: Source = FolderSource(data_dir, split)
    elif part.name == "manifest":
        source = ManifestSource(data_dir, split)
    elif part.name == "synthetic":
        raise BadSetting(_FIELD, settings.name, "synthetic images cannot be mixed with others")
    elif part.name in catalog.TASKS and not catalog.TASKS[part.name].data:
        raise BadSetting(_FIELD, settings.name, f"{part.name} is {catalog.TASKS[part.name].note}")
    else:
        keys = (arguments.get("image_key", settings.image_key), arguments.get("label_key", settings.label_key))
        source = TfdsSource(part.name, data_dir, split, *keys)
    own = arguments.get("subset")
    subset = own or settings.subset
    if training and subset:
        source = take_subset(source, subset, settings.subset_seed, _FIELD if own else "config.data.subset")
    return source
