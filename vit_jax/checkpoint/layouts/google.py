"""The npz files that Google released for ViTs and hybrids, and the dialects that other code of theirs writes.

`RULES` are the released names, with the numbering of the library of the time (`MultiHeadDotProductAttention_1`,
`LayerNorm_2`, `MlpBlock_3`): the form that vision_transformer, big_vision and timm all read. `canonical` brings other
dialects into it: Linen numbering, big_vision's root `pos_embedding` and scanned blocks, training-state prefixes,
unsqueezed GroupNorm.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoint.layouts.layout import Layout
from vit_jax.checkpoint.layouts.rules import Arrays, Rule, rule

PREFIXES = ("opt/target/", "params/img/", "params/")
_BLOCK = "Transformer/encoderblock_{i}"
_POSITIONS = "Transformer/posembed_input/pos_embedding"
_LEAVES = {"norm": ("scale", "bias"), "dense": ("kernel", "bias")}


def _both(ours: str, theirs: str, kind: str) -> Iterator[Rule]:
    for leaf in _LEAVES[kind]:
        yield rule(f"{ours}/{leaf}", f"{theirs}/{leaf}")


def _attention(ours: str, theirs: str) -> Iterator[Rule]:
    for part in ("query", "key", "value", "out"):
        yield from _both(f"{ours}/{part}", f"{theirs}/{part}", "dense")


def _rules() -> Iterator[Rule]:
    yield rule("cls", "cls")
    yield rule("pos_embedding", _POSITIONS)
    yield from _both("embedding", "embedding", "dense")
    yield from _both("blocks/norm1", f"{_BLOCK}/LayerNorm_0", "norm")
    yield from _attention("blocks/attn", f"{_BLOCK}/MultiHeadDotProductAttention_1")
    yield from _both("blocks/norm2", f"{_BLOCK}/LayerNorm_2", "norm")
    yield from _both("blocks/mlp/dense1", f"{_BLOCK}/MlpBlock_3/Dense_0", "dense")
    yield from _both("blocks/mlp/dense2", f"{_BLOCK}/MlpBlock_3/Dense_1", "dense")
    yield from _both("norm", "Transformer/encoder_norm", "norm")
    yield rule("map_head/probe", "MAPHead_0/probe")
    yield from _attention("map_head/attn", "MAPHead_0/MultiHeadDotProductAttention_0")
    yield from _both("map_head/norm", "MAPHead_0/LayerNorm_0", "norm")
    yield from _both("map_head/mlp/dense1", "MAPHead_0/MlpBlock_0/Dense_0", "dense")
    yield from _both("map_head/mlp/dense2", "MAPHead_0/MlpBlock_0/Dense_1", "dense")
    yield from _both("pre_logits", "pre_logits", "dense")
    yield from _both("head", "head", "dense")
    yield rule("trunk/root/kernel", "conv_root/kernel")
    yield from _both("trunk/root_norm", "gn_root", "norm")
    for b in range(1, 5):
        for ours, theirs, first in (("unit1", "unit1", 0), ("units", "unit{i}", 2)):
            here, there = f"trunk/block{b}/{ours}", f"block{b}/{theirs}"
            names = (*("1", "2", "3"), *(["proj"] if ours == "unit1" else []))
            for n in names:
                conv, gn = (f"conv{n}", f"norm{n}") if n != "proj" else ("proj", "proj_norm")
                yield rule(f"{here}/{conv}/kernel", f"{there}/conv{'_' * (n == 'proj')}{n}/kernel", first=first)
                for leaf in _LEAVES["norm"]:
                    yield rule(f"{here}/{gn}/{leaf}", f"{there}/gn{'_' * (n == 'proj')}{n}/{leaf}", first=first)


RULES = tuple(_rules())


def recognises(names: set[str]) -> bool:
    """Whether these are the arrays of a ViT, a hybrid or its kind of ResNet in one of the dialects."""
    return _prefix(names) is not None


def _prefix(names: Iterable[str]) -> str | None:
    """What stands before every parameter's name; None if these are no such parameters."""
    starts = ("embedding/kernel", "conv_root/kernel")
    return next((p for p in ("", *PREFIXES) if any(f"{p}{start}" in names for start in starts)), None)


def canonical(arrays: Arrays, config: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Any dialect -> (the released one, names left aside because they are not parameters).

    big_vision adds position embeddings before it puts the class token in front, so its table lacks the token's row;
    here that row is 0, which is the same.
    """
    prefix = _prefix(arrays) or ""
    ignored = [name for name in arrays if not name.startswith(prefix)]
    found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    found = _unstacked(found)
    linen = any("/MultiHeadDotProductAttention_0/" in name for name in found if name.startswith("Transformer/"))
    found = {_released_name(name) if linen else name: array for name, array in found.items()}
    if "pos_embedding" in found and _POSITIONS not in found:
        table = found.pop("pos_embedding")
        if "cls" in found and table.ndim == 3:
            table = np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)
        found[_POSITIONS] = table
    return {name: _squeezed(name, array) for name, array in found.items()}, ignored


def _unstacked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Blocks stacked along a leading axis (`Transformer/encoderblock/...`) as one entry a layer."""
    result = {}
    for name, array in arrays.items():
        head, stacked, rest = name.partition("Transformer/encoderblock/")
        if stacked and not head and array.ndim:
            result.update({f"Transformer/encoderblock_{i}/{rest}": part for i, part in enumerate(array)})
        else:
            result[name] = array
    return result


def _released_name(name: str) -> str:
    """The Linen name of an encoder's array in the numbering of the released files."""
    if not name.startswith("Transformer/encoderblock_"):
        return name
    for ours, theirs in (
        ("/MultiHeadDotProductAttention_0/", "/MultiHeadDotProductAttention_1/"),
        ("/LayerNorm_1/", "/LayerNorm_2/"),
        ("/MlpBlock_0/", "/MlpBlock_3/"),
    ):
        name = name.replace(ours, theirs)
    return name


def _squeezed(name: str, array: np.ndarray) -> np.ndarray:
    """GroupNorm parameters of the released hybrids are (1, 1, 1, c)."""
    is_norm = re.search(r"(^|/)gn(\d|_root|_proj)/(scale|bias)$", name)
    return array.reshape(-1) if is_norm and array.shape[:-1] == (1, 1, 1) else array


LAYOUT = Layout("released npz", RULES, recognises, canonical)
