"""The released files as tables: names and shapes written down from their description, and files made from them.

Shares nothing with `vit_jax.checkpoint`. A table is {name in the file: (shape there, our parameter, its layer)}.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Table = dict[str, tuple[tuple[int, ...], str, int | None]]
Arrays = dict[str, np.ndarray]

# A ViT and the trunk of a hybrid that take milliseconds.
TINY: dict[str, Any] = {"width": 8, "depth": 3, "mlp": 12, "heads": 2, "patch": 4, "rows": 5, "classes": 7}


def vit(
    *,
    width: int,
    depth: int,
    mlp: int,
    heads: int,
    patch: int,
    rows: int,
    classes: int = 1000,
    channels: int = 3,
    pool: str = "token",
    pre_logits: bool = False,
) -> Table:
    """A ViT in the numbering of the released files; `rows` are those of the position embeddings."""
    table: Table = {
        "embedding/kernel": ((patch, patch, channels, width), "embedding/kernel", None),
        "embedding/bias": ((width,), "embedding/bias", None),
        "Transformer/posembed_input/pos_embedding": ((1, rows, width), "pos_embedding", None),
        "Transformer/encoder_norm/scale": ((width,), "norm/scale", None),
        "Transformer/encoder_norm/bias": ((width,), "norm/bias", None),
    }
    if pool == "token":
        table["cls"] = ((1, 1, width), "cls", None)
    if classes:
        table["head/kernel"] = ((width, classes), "head/kernel", None)
        table["head/bias"] = ((classes,), "head/bias", None)
    if pre_logits:
        table["pre_logits/kernel"] = ((width, width), "pre_logits/kernel", None)
        table["pre_logits/bias"] = ((width,), "pre_logits/bias", None)
    if pool == "map":
        table["MAPHead_0/probe"] = ((1, 1, width), "map_head/probe", None)
        for name, (shape, ours) in _half_block(width, mlp, heads, attention=0, norm=0, mlp_number=0).items():
            table[f"MAPHead_0/{name}"] = (shape, f"map_head/{ours}", None)
    for i in range(depth):
        block = _half_block(width, mlp, heads, attention=1, norm=2, mlp_number=3)
        block = {name: (shape, ours.replace("norm/", "norm2/")) for name, (shape, ours) in block.items()}
        block["LayerNorm_0/scale"] = ((width,), "norm1/scale")
        block["LayerNorm_0/bias"] = ((width,), "norm1/bias")
        for name, (shape, ours) in block.items():
            table[f"Transformer/encoderblock_{i}/{name}"] = (shape, f"blocks/{ours}", i)
    return table


def _half_block(d: int, m: int, heads: int, *, attention: int, norm: int, mlp_number: int) -> dict[str, Any]:
    """Attention, one norm and the MLP: all of a block but its first norm, and all of a MAP head but its probe."""
    attn, e = f"MultiHeadDotProductAttention_{attention}", d // heads
    return {
        f"{attn}/query/kernel": ((d, heads, e), "attn/query/kernel"),
        f"{attn}/query/bias": ((heads, e), "attn/query/bias"),
        f"{attn}/key/kernel": ((d, heads, e), "attn/key/kernel"),
        f"{attn}/key/bias": ((heads, e), "attn/key/bias"),
        f"{attn}/value/kernel": ((d, heads, e), "attn/value/kernel"),
        f"{attn}/value/bias": ((heads, e), "attn/value/bias"),
        f"{attn}/out/kernel": ((heads, e, d), "attn/out/kernel"),
        f"{attn}/out/bias": ((d,), "attn/out/bias"),
        f"LayerNorm_{norm}/scale": ((d,), "norm/scale"),
        f"LayerNorm_{norm}/bias": ((d,), "norm/bias"),
        f"MlpBlock_{mlp_number}/Dense_0/kernel": ((d, m), "mlp/dense1/kernel"),
        f"MlpBlock_{mlp_number}/Dense_0/bias": ((m,), "mlp/dense1/bias"),
        f"MlpBlock_{mlp_number}/Dense_1/kernel": ((m, d), "mlp/dense2/kernel"),
        f"MlpBlock_{mlp_number}/Dense_1/bias": ((d,), "mlp/dense2/bias"),
    }


def _units(units: Sequence[int], factor: int) -> Iterator[tuple[int, int, str, int | None, int, int]]:
    """(block, unit, our name, our layer, channels in, bottleneck) of each unit."""
    channels = 64 * factor
    for b, count in enumerate(units, 1):
        m = 64 * factor * 2 ** (b - 1)
        for u in range(1, count + 1):
            ours = f"trunk/block{b}/{'unit1' if u == 1 else 'units'}"
            yield b, u, ours, (None if u == 1 else u - 2), channels, m
            channels = 4 * m


def post_activation(units: Sequence[int], *, factor: int = 1, channels: int = 3, squeezed: bool = True) -> Table:
    """The trunk of a hybrid. Released files have the norms as (1, 1, 1, c), files written by newer code as (c,)."""

    def norm(theirs: str, ours: str, width: int, layer: int | None) -> Table:
        shape = (width,) if squeezed else (1, 1, 1, width)
        return {f"{theirs}/{leaf}": (shape, f"{ours}/{leaf}", layer) for leaf in ("scale", "bias")}

    w = 64 * factor
    table: Table = {"conv_root/kernel": ((7, 7, channels, w), "trunk/root/kernel", None)}
    table |= norm("gn_root", "trunk/root_norm", w, None)
    for b, u, ours, layer, c, m in _units(units, factor):
        unit = f"block{b}/unit{u}"
        table[f"{unit}/conv1/kernel"] = ((1, 1, c, m), f"{ours}/conv1/kernel", layer)
        table[f"{unit}/conv2/kernel"] = ((3, 3, m, m), f"{ours}/conv2/kernel", layer)
        table[f"{unit}/conv3/kernel"] = ((1, 1, m, 4 * m), f"{ours}/conv3/kernel", layer)
        table |= norm(f"{unit}/gn1", f"{ours}/norm1", m, layer)
        table |= norm(f"{unit}/gn2", f"{ours}/norm2", m, layer)
        table |= norm(f"{unit}/gn3", f"{ours}/norm3", 4 * m, layer)
        if u == 1:
            table[f"{unit}/conv_proj/kernel"] = ((1, 1, c, 4 * m), f"{ours}/proj/kernel", None)
            table |= norm(f"{unit}/gn_proj", f"{ours}/proj_norm", 4 * m, None)
    return table


def hybrid(units: Sequence[int], *, factor: int = 1, channels: int = 3, squeezed: bool = True, **encoder: Any) -> Table:
    """A trunk and the ViT on top of it."""
    last = 256 * factor * 2 ** (len(units) - 1) if units else 64 * factor
    trunk = post_activation(units, factor=factor, channels=channels, squeezed=squeezed)
    return {**trunk, **vit(channels=last, **encoder)}


def bit(units: Sequence[int], *, factor: int = 1, channels: int = 3, classes: int = 1000) -> Table:
    """A BiT ResNet."""

    def norm(theirs: str, ours: str, width: int, layer: int | None = None) -> Table:
        names = {"gamma": "scale", "beta": "bias"}
        return {f"{theirs}/group_norm/{t}": ((width,), f"{ours}/{o}", layer) for t, o in names.items()}

    conv, out = "standardized_conv2d/kernel", 256 * factor * 2 ** (len(units) - 1)
    table: Table = {f"resnet/root_block/{conv}": ((7, 7, channels, 64 * factor), "trunk/root/kernel", None)}
    table |= norm("resnet", "norm", out)
    if classes:
        table["resnet/head/conv2d/kernel"] = ((1, 1, out, classes), "head/kernel", None)
        table["resnet/head/conv2d/bias"] = ((classes,), "head/bias", None)
    for b, u, ours, layer, c, m in _units(units, factor):
        unit = f"resnet/block{b}/unit{u:02}"
        table[f"{unit}/a/{conv}"] = ((1, 1, c, m), f"{ours}/conv1/kernel", layer)
        table[f"{unit}/b/{conv}"] = ((3, 3, m, m), f"{ours}/conv2/kernel", layer)
        table[f"{unit}/c/{conv}"] = ((1, 1, m, 4 * m), f"{ours}/conv3/kernel", layer)
        table |= norm(f"{unit}/a", f"{ours}/norm1", c, layer)
        table |= norm(f"{unit}/b", f"{ours}/norm2", m, layer)
        table |= norm(f"{unit}/c", f"{ours}/norm3", m, layer)
        if u == 1:
            table[f"{unit}/a/proj/{conv}"] = ((1, 1, c, 4 * m), f"{ours}/proj/kernel", None)
    return table


def random_arrays(table: Table, seed: int = 0) -> Arrays:
    """A file: no value is zero, and no two arrays are alike."""
    random = np.random.default_rng(seed)
    return {name: random.normal(0.1, 0.3, shape).astype(np.float32) for name, (shape, _, _) in table.items()}


def our_named(table: Table, arrays: Arrays) -> Arrays:
    """{our parameter: array} of a file, layers stacked."""
    layers: dict[str, dict[int | None, np.ndarray]] = {}
    for theirs, (_, ours, layer) in table.items():
        array = arrays[theirs]
        if theirs == "resnet/head/conv2d/kernel":
            array = array[0, 0]
        elif "/gn" in f"/{theirs}":
            array = array.reshape(array.shape[-1])
        layers.setdefault(ours, {})[layer] = array
    return {
        ours: parts[None] if None in parts else np.stack([parts[i] for i in range(len(parts))])
        for ours, parts in layers.items()
    }


def our_shapes(table: Table) -> dict[str, tuple[int, ...]]:
    """{our parameter: shape}, without the memory."""
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, (shape, _, _) in table.items()}
    counts: dict[str, int] = {}
    for _, ours, layer in table.values():
        counts[ours] = counts.get(ours, 0) + (layer is not None)
    first = {name: row for name, row in table.items() if row[2] in (None, 0)}
    single = our_named({name: (shape, ours, None) for name, (shape, ours, _) in first.items()}, zeros)
    return {ours: ((counts[ours],) if counts[ours] else ()) + array.shape for ours, array in single.items()}


def tree(named: Arrays) -> dict[str, Any]:
    """{"a/b": array} as nested dicts."""
    result: dict[str, Any] = {}
    for name, array in named.items():
        node = result
        *parents, last = name.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return result


def assert_same(found: Any, expected: Any) -> None:
    """The same nested dicts, names, dtypes and bits."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_same(found[name], value)
        else:
            assert np.asarray(found[name]).dtype == value.dtype, name
            np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)
