"""What timm's and Hugging Face's formats share: trunks, heads, pixel ranges, pre-processing, configs."""

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from vit_jax.checkpoint.layouts.rules import Arrays, Rule, conv, norm
from vit_jax.errors import UserError, one_line
from vit_jax.models import ENCODERS

T = TypeVar("T")

# Pixels are multiplied by this before mean and standard deviation apply.
PIXEL_SCALE = 1 / 255
_MAX_SIDE = 2**16


def trunk_rules(root: str, unit: str) -> Iterator[Rule]:
    """The rules of a ResNet trunk in either version; timm and Hugging Face differ in where it hangs only.

    Args:
      root: name of the first convolution, without `.weight`.
      unit: name of a unit, with `{s}` for the stage and `{u}` for the unit, both from 0.
    """
    yield conv("trunk/root", root)
    for s in range(4):
        for ours, index, first in (("unit1", "0", 0), ("units", "{i}", 1)):
            here, there = f"trunk/block{s + 1}/{ours}", unit.format(s=s, u=index)
            for n in "123":
                yield conv(f"{here}/conv{n}", f"{there}.conv{n}", first=first)
                yield from norm(f"{here}/norm{n}", f"{there}.norm{n}", first=first)
        yield conv(f"trunk/block{s + 1}/unit1/proj", f"{unit.format(s=s, u=0)}.downsample.conv")
        yield from norm(f"trunk/block{s + 1}/unit1/proj_norm", f"{unit.format(s=s, u=0)}.downsample.norm")


def refuse(names: Sequence[str], reasons: Mapping[str, str], what: str) -> None:
    """Raises UserError for the first array that only models we cannot build have.

    Args:
      names: of the arrays.
      reasons: {regular expression of a whole name: what such an array means}.
      what: the format, for the error.
    """
    for name in names:
        for pattern, reason in reasons.items():
            if re.fullmatch(pattern, name):
                raise UserError(f"{what} file: {name!r} is of a model that cannot be built here: {reason}")


def known_heads(width: int, depth: int) -> dict[str, int]:
    """{"heads": ...} of the published encoder of this size; empty if there is none.

    Shapes of fused or flattened projections do not tell the number of heads.
    """
    heads = {shape.heads for shape in ENCODERS.values() if (shape.width, shape.depth) == (width, depth)}
    return {"heads": heads.pop()} if len(heads) == 1 else {}


def layers(names: Sequence[str], pattern: str) -> int:
    """How many layers there are: one more than the largest index that group 1 of `pattern` finds."""
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def rescaled(
    named: dict[str, np.ndarray], conv: str, mean: Sequence[float], std: Sequence[float], *, padded: bool
) -> dict[str, np.ndarray]:
    """The same model for pixels in [-1, 1] where it was trained on (p - mean) / std with p in [0, 1].

    A patch embedding absorbs the difference exactly: p is (x + 1) / 2, so each channel of the kernel is divided by
    2 std, and the bias gains the response to (1 - 2 mean) / (2 std). A convolution that pads cannot, since its zeros
    would stand for another colour, and one whose kernel is standardised would undo it.

    Args:
      named: arrays by name.
      conv: name of the first convolution, without `.weight`.
      mean: of each channel; one value stands for all.
      std: likewise.
      padded: whether that convolution pads or standardises.

    Raises:
      UserError: padded, or the values do not belong to the image's channels.
    """
    if set(mean) | set(std) == {0.5}:
        return named
    stated = f"images normalised with mean {[*mean]} and standard deviation {[*std]}"
    if padded:
        fix = "only 0.5 fits a model whose first convolution pads: fine-tune it on such images in PyTorch first"
        raise UserError(f"the config asks for {stated}; {fix}")
    kernel = named[f"{conv}.weight"].astype(np.float64)
    channels = kernel.shape[1]
    means, stds = (np.asarray(v if len(v) > 1 else [*v] * channels, np.float64) for v in (mean, std))
    if means.shape != (channels,) or stds.shape != (channels,) or not np.all(stds > 0):
        raise UserError(f"the config asks for {stated}, and the model's images have {channels} channels")
    kernel /= 2 * stds[:, None, None]
    shift = np.einsum("ocij,c->o", kernel, 1 - 2 * means)
    bias = named.get(f"{conv}.bias", np.zeros(len(kernel))).astype(np.float64) + shift
    changed = {f"{conv}.weight": kernel.astype(np.float32), f"{conv}.bias": bias.astype(np.float32)}
    return {**named, **changed}


def cropped(size: tuple[int, int], shorter_side: int) -> str:
    """The evaluation pipeline that resizes the shorter side to `shorter_side` pixels and crops `size`."""
    return f"decode|resize_small({shorter_side / max(size):.6g})|central_crop"


def size_of(value: Any) -> tuple[int, int]:
    """(height, width) from one side, a pair or {"height", "width"}.

    Raises:
      ValueError: it is none of these, or no size.
    """
    if isinstance(value, Mapping):
        value = value["height"], value["width"]
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(type(side) is int and 0 < side < _MAX_SIDE for side in pair):
        raise ValueError(f"{value!r} is no image size")
    return pair[0], pair[1]


def in_order(names: Any) -> tuple[str, ...] | None:
    """Class names as a tuple, from a list or from {index: name}; None if there are none, or some are missing."""
    if isinstance(names, Mapping):
        by_index = {int(index): name for index, name in names.items()}
        names = [by_index.get(i) for i in range(len(by_index))]
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def finite(value: Any) -> float:
    """A real number from a config.

    Raises:
      ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def reads_config(function: Callable[[Arrays, Mapping[str, Any]], T]) -> Callable[[Arrays, Mapping[str, Any]], T]:
    """Turns what a config of unexpected content makes fail into one line."""

    @functools.wraps(function)
    def guarded(arrays: Arrays, config: Mapping[str, Any]) -> T:
        try:
            return function(arrays, config)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"config.json, or an array it describes, is not as expected ({one_line(error)})") from None

    return guarded
