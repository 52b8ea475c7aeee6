"""The npz files of BiT ResNets (big_transfer)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoint.layouts.layout import Layout
from vit_jax.checkpoint.layouts.rules import Arrays, Rule, rule

_CONV = "standardized_conv2d/kernel"


def _norm(ours: str, theirs: str, first: int = 0, digits: int = 1) -> Iterator[Rule]:
    yield rule(f"{ours}/scale", f"{theirs}/group_norm/gamma", first=first, digits=digits)
    yield rule(f"{ours}/bias", f"{theirs}/group_norm/beta", first=first, digits=digits)


def _rules() -> Iterator[Rule]:
    yield rule("trunk/root/kernel", f"resnet/root_block/{_CONV}")
    for b in range(1, 5):
        yield rule(f"trunk/block{b}/unit1/proj/kernel", f"resnet/block{b}/unit01/a/proj/{_CONV}")
        for ours, theirs, first in (("unit1", "unit01", 0), ("units", "unit{i}", 2)):
            here, there = f"trunk/block{b}/{ours}", f"resnet/block{b}/{theirs}"
            for n, part in enumerate("abc", 1):
                yield from _norm(f"{here}/norm{n}", f"{there}/{part}", first, 2)
                yield rule(f"{here}/conv{n}/kernel", f"{there}/{part}/{_CONV}", first=first, digits=2)
    yield from _norm("norm", "resnet")
    yield rule("head/kernel", "resnet/head/conv2d/kernel", "c n -> 1 1 c n")
    yield rule("head/bias", "resnet/head/conv2d/bias")


RULES = tuple(_rules())


def recognises(names: set[str]) -> bool:
    """Whether these are the arrays of a BiT file."""
    return any(re.match(r"resnet/root_block/standardized_conv2d(_\d+)?/kernel", name) for name in names)


def canonical(arrays: Arrays, config: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Some files number their convolutions (`standardized_conv2d_17`); the place already says which it is."""
    return {re.sub(r"standardized_conv2d_\d+/", "standardized_conv2d/", name): a for name, a in arrays.items()}, []


LAYOUT = Layout("BiT npz", RULES, recognises, canonical)
