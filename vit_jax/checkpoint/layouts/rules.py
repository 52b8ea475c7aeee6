"""Names and shapes of a published format, as rules that are read in both directions."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import einops
import numpy as np

from vit_jax.errors import UserError
from vit_jax.models import Params
from vit_jax.trees import named_leaves, nested

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One kind of array.

    Attributes:
      ours: the parameter, for example `blocks/attn/query/kernel`; several are joined along the first axis of theirs.
      theirs: the name in the file; `{i}` is the index along our leading layer axis.
      pattern: from our shape (without the layer axis) to theirs, in einops' notation; none if they are the same. An
        axis that is split when read back is sized by the `sizes` of `from_file`.
      first: what `{i}` is for the first layer.
      digits: `{i}` is padded with zeros to this length.
    """

    ours: tuple[str, ...]
    theirs: str
    pattern: str = ""
    first: int = 0
    digits: int = 1

    @property
    def stacked(self) -> bool:
        """Whether there is one array a layer."""
        return "{i}" in self.theirs

    def name(self, layer: int) -> str:
        """Their name for this layer."""
        return self.theirs.replace("{i}", str(layer + self.first).zfill(self.digits))

    @functools.cached_property
    def expression(self) -> re.Pattern[str]:
        """Matches their names; group 1, if any, is the index."""
        before, _, after = self.theirs.partition("{i}")
        return re.compile(re.escape(before) + (r"(\d{1,6})" + re.escape(after) if self.stacked else ""))

    def write(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Our arrays of one layer -> theirs."""
        moved = [einops.rearrange(part, self.pattern) if self.pattern else part for part in parts]
        return np.concatenate(moved) if len(moved) > 1 else moved[0]

    def read(self, array: np.ndarray, sizes: Mapping[str, int]) -> list[np.ndarray]:
        """Their array -> ours of one layer, the inverse of `write`.

        Raises:
          ValueError: its shape does not fit the pattern.
        """
        if len(self.ours) > 1:
            if not array.ndim or array.shape[0] % len(self.ours):
                raise ValueError(f"the first dimension is not {len(self.ours)} parts")
            parts = np.split(array, len(self.ours))
        else:
            parts = [array]
        if not self.pattern:
            return parts
        left, right = self.pattern.split("->")
        known = {axis: size for axis, size in sizes.items() if axis in re.findall(r"\w+", self.pattern)}
        try:
            return [einops.rearrange(part, f"{right} -> {left}", **known) for part in parts]
        except einops.EinopsError as error:
            raise ValueError(str(error).splitlines()[-1].strip()) from None


def rule(ours: str | tuple[str, ...], theirs: str, pattern: str = "", **options: int) -> Rule:
    """A `Rule`; `ours` may be one name."""
    return Rule((ours,) if isinstance(ours, str) else ours, theirs, pattern, **options)


def to_file(params: Params, rules: Sequence[Rule], *, strict: str = "") -> dict[str, np.ndarray]:
    """Our parameters under their names.

    Args:
      params: nested dicts of host arrays.
      rules: of the format.
      strict: the format's name if it has no place for other parameters; otherwise they keep our names.

    Raises:
      UserError: `strict`, and some parameter has no rule.
    """
    named = {name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}
    arrays: dict[str, np.ndarray] = {}
    left = dict(named)
    for r in rules:
        if not all(name in named for name in r.ours):
            continue
        parts = [left.pop(name) for name in r.ours]
        if r.stacked:
            for layer, of_layer in enumerate(zip(*parts, strict=True)):
                arrays[r.name(layer)] = r.write(of_layer)
        else:
            arrays[r.theirs] = r.write(parts)
    if left and strict:
        raise UserError(f"{strict} has no place for {', '.join(sorted(left))}; npz can hold every model")
    return {**arrays, **left}


@dataclasses.dataclass(frozen=True)
class Read:
    """What `from_file` found.

    Attributes:
      named: {parameter: array}, stacked where ours are.
      surplus: their names that no rule knows, nor we.
      problems: their names whose shapes or indices make no sense, with the reason.
    """

    named: dict[str, np.ndarray]
    surplus: list[str]
    problems: list[str]


# Parameters for which a format may have no name and that then keep ours.
OWN = re.compile(r"registers|mask_token|pos_embedding_[xy]|relative_embedding|(blocks|positions|map_head|trunk)/.+")


def from_file(arrays: Arrays, rules: Sequence[Rule], sizes: Mapping[str, int]) -> Read:
    """The inverse of `to_file`, as far as the rules go; `check` compares the result with a model.

    Args:
      arrays: from the file.
      rules: of the format.
      sizes: of axes that patterns split, such as {"k": 12}.
    """
    found: dict[str, dict[int, np.ndarray]] = {}
    named: dict[str, np.ndarray] = {}
    surplus, problems = [], []
    for theirs, array in arrays.items():
        r, layer = _match(theirs, rules)
        if r is None:
            if OWN.fullmatch(theirs):
                named[theirs] = array
            else:
                surplus.append(theirs)
            continue
        try:
            parts = r.read(array, sizes)
        except ValueError as error:
            problems.append(f"{theirs} {_text(array.shape)}: {error}")
            continue
        for name, part in zip(r.ours, parts, strict=True):
            if layer is None:
                named[name] = part
            else:
                found.setdefault(name, {})[layer] = part
    for name, layers in found.items():
        same = len({part.shape for part in layers.values()}) == 1
        if sorted(layers) == list(range(len(layers))) and same:
            named[name] = np.stack([layers[i] for i in range(len(layers))])
            continue
        names = their_names(name, len(layers), rules)
        gaps = [f"{names[i]} is missing" for i in range(len(layers)) if i not in layers]
        problems += gaps or [f"{names[0]} and those of other layers differ in shape"]
    return Read(named, surplus, list(dict.fromkeys(problems)))


def _match(theirs: str, rules: Sequence[Rule]) -> tuple[Rule | None, int | None]:
    for r in rules:
        match = r.expression.fullmatch(theirs)
        if match is None:
            continue
        if not r.stacked:
            return r, None
        layer = int(match[1]) - r.first
        if layer >= 0 and r.name(layer) == theirs:
            return r, layer
    return None, None


def their_names(ours: str, depth: int, rules: Sequence[Rule]) -> list[str]:
    """What a parameter is called in the file: one name, or one a layer; our own name if no rule knows it."""
    for r in rules:
        if ours in r.ours:
            return [r.name(i) for i in range(depth)] if r.stacked else [r.theirs]
    return [ours]


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def tree(named: Mapping[str, np.ndarray]) -> Params:
    """{parameter: array} as nested dicts of float32."""
    return nested({name: np.asarray(array, np.float32) for name, array in named.items()})


def linear(ours: str, theirs: str, **options: Any) -> Iterator[Rule]:
    """A dense layer of a PyTorch file: weights are (out, in)."""
    yield rule(f"{ours}/kernel", f"{theirs}.weight", "i o -> o i", **options)
    yield rule(f"{ours}/bias", f"{theirs}.bias", **options)


def conv(ours: str, theirs: str, **options: Any) -> Rule:
    """A convolution of a PyTorch file: weights are (out, in, height, width)."""
    return rule(f"{ours}/kernel", f"{theirs}.weight", "h w i o -> o i h w", **options)


def norm(ours: str, theirs: str, **options: Any) -> Iterator[Rule]:
    """A norm of a PyTorch file."""
    yield rule(f"{ours}/scale", f"{theirs}.weight", **options)
    yield rule(f"{ours}/bias", f"{theirs}.bias", **options)
