"""The published formats: exactly the published names and shapes, and the same numbers both ways."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoint import released
from vit_jax.checkpoint.layouts import LAYOUTS, bit, from_file, google, to_file
from vit_jax.checkpoint.layouts.rules import rule, their_names
from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings
from vit_jax.trees import named_leaves, nested

B = {"width": 768, "depth": 12, "mlp": 3072, "heads": 12}
L = {"width": 1024, "depth": 24, "mlp": 4096, "heads": 16}
S = {"width": 384, "depth": 12, "mlp": 1536, "heads": 6}
TI = {"width": 192, "depth": 12, "mlp": 768, "heads": 3}
H = {"width": 1280, "depth": 32, "mlp": 5120, "heads": 16}

# Variant at 224 pixels and 1000 classes: (layout, table, arrays, scalars), as they were published.
PUBLISHED = {
    "B/16": (google, released.vit(**B, patch=16, rows=197), 200, 86_567_656),
    "L/16": (google, released.vit(**L, patch=16, rows=197), 392, 304_326_632),
    "H/14": (google, released.vit(**H, patch=14, rows=257), 520, 632_045_800),
    "R+Ti/16": (google, released.hybrid((), **TI, patch=8, rows=50), 203, 6_337_704),
    "R26+S/32": (google, released.hybrid((2, 2, 2, 2), **S, patch=1, rows=50), 287, 36_431_912),
    "R50+B/16": (google, released.hybrid((3, 4, 9), **B, patch=1, rows=197), 356, 98_659_112),
    "R50+L/32": (google, released.hybrid((3, 4, 6, 3), **L, patch=1, rows=50), 551, 328_994_856),
    "R50x1": (bit, released.bit((3, 4, 6, 3)), 153, 25_549_352),
    "R101x1": (bit, released.bit((3, 4, 23, 3)), 153 + 17 * 9, 44_541_480),
}


def zeros(model: Model) -> dict:
    """Parameters without memory."""
    shapes = model.shapes
    return nested({name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()})


def theirs(table: released.Table) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, (shape, _, _) in table.items()}


@pytest.mark.parametrize("variant", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(variant):
    layout, table, count, scalars = PUBLISHED[variant]
    assert len(table) == count
    assert sum(math.prod(shape) for shape in theirs(table).values()) == scalars
    arrays = to_file(zeros(Model(ModelSettings(variant), (224, 224), 3, 1000)), layout.RULES, strict="npz")
    assert {name: array.shape for name, array in arrays.items()} == theirs(table)


@pytest.mark.parametrize(
    ("options", "count"),
    [({"pre_logits": True}, 202), ({"pool": "gap"}, 199), ({"pool": "map"}, 199 + 15), ({"classes": 0}, 198)],
)
def test_options_of_a_vit_add_and_drop_the_published_arrays(options, count):
    table = released.vit(**{**released.TINY, "depth": 12, "rows": 6 + ("pool" not in options), **options})
    ours = {name: value for name, value in options.items() if name != "classes"}
    settings = ModelSettings("mu/4", width=8, depth=12, mlp_dim=12, **ours)
    model = Model(settings, (8, 12), 3, options.get("classes", 7))
    arrays = to_file(zeros(model), google.RULES, strict="npz")
    assert {name: array.shape for name, array in arrays.items()} == theirs(table)
    assert len(arrays) == count


def test_the_examples_of_the_description():
    model = Model(ModelSettings("R50+B/16", pre_logits=True), (384, 384), 3, 21_843)
    shapes = {name: array.shape for name, array in to_file(zeros(model), google.RULES).items()}
    block = "Transformer/encoderblock_11"
    assert shapes[f"{block}/MultiHeadDotProductAttention_1/query/kernel"] == (768, 12, 64)
    assert shapes[f"{block}/MultiHeadDotProductAttention_1/query/bias"] == (12, 64)
    assert shapes[f"{block}/MultiHeadDotProductAttention_1/out/kernel"] == (12, 64, 768)
    assert shapes[f"{block}/MlpBlock_3/Dense_0/kernel"] == (768, 3072)
    assert shapes["Transformer/posembed_input/pos_embedding"] == (1, 577, 768)
    assert shapes["embedding/kernel"] == (1, 1, 1024, 768)
    assert shapes["block3/unit9/conv2/kernel"] == (3, 3, 256, 256)
    assert shapes["block1/unit1/conv_proj/kernel"] == (1, 1, 64, 256)
    assert shapes["pre_logits/kernel"] == (768, 768)
    assert shapes["head/kernel"] == (768, 21_843)


def check_both_ways(layout, table: released.Table) -> None:
    """Numbers of a file in any order <-> ours."""
    arrays = released.random_arrays(table)
    params = released.tree(released.our_named(table, arrays))
    written = to_file(params, layout.RULES, strict="npz")
    released.assert_same(written, arrays)
    shuffled = {name: written[name] for name in sorted(written, key=lambda name: name[::-1])}
    canonical, ignored = layout.canonical(shuffled, {})
    read = from_file(canonical, layout.RULES, {})
    assert (ignored, read.surplus, read.problems) == ([], [], [])
    released.assert_same(nested(read.named), params)


@settings(deadline=None, max_examples=30)
@given(
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 3),
    depth=st.integers(1, 12),
    mlp=st.integers(1, 5),
    patch=st.integers(1, 3),
    rows=st.integers(1, 5),
    pool=st.sampled_from(["token", "gap", "map"]),
    pre_logits=st.booleans(),
    channels=st.sampled_from([1, 3]),
    classes=st.integers(0, 3),
)
def test_every_number_of_a_vit_survives_both_ways(heads, head_dim, **shape):
    check_both_ways(google, released.vit(width=heads * head_dim, heads=heads, **shape))


@pytest.mark.parametrize("units", [(), (1,), (2, 1), (11,)])
def test_every_number_of_a_hybrid_survives_both_ways(units):
    check_both_ways(google, released.hybrid(units, **released.TINY))


@pytest.mark.parametrize(("units", "classes"), [((1,), 5), ((2, 1), 0), ((11,), 5)])
def test_every_number_of_a_bit_resnet_survives_both_ways(units, classes):
    check_both_ways(bit, released.bit(units, classes=classes))


def test_units_are_numbered_without_zeros_in_hybrids_and_with_them_in_bit():
    names = released.post_activation((11,))
    assert {"block1/unit2/gn1/scale", "block1/unit11/gn1/scale"} <= set(names)
    for layout, wrong in (
        (google, "block1/unit02/conv1/kernel"),
        (google, "Transformer/encoderblock_01/LayerNorm_0/scale"),
        (google, "Transformer/encoderblock_" + "1" * 5000 + "/LayerNorm_0/scale"),
        (bit, "resnet/block1/unit2/a/standardized_conv2d/kernel"),
        (bit, "resnet/block1/unit00/a/standardized_conv2d/kernel"),
        (bit, "resnet/block5/unit01/a/standardized_conv2d/kernel"),
    ):
        read = from_file({wrong: np.zeros(3)}, layout.RULES, {})
        assert (read.named, read.surplus, read.problems) == ({}, [wrong], [])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"embedding/kernel"}, "released npz"),
        ({"conv_root/kernel"}, "released npz"),
        ({"opt/target/embedding/kernel", "opt/state/step"}, "released npz"),
        ({"params/embedding/kernel"}, "released npz"),
        ({"params/img/embedding/kernel", "params/txt/embedding/kernel"}, "released npz"),
        ({"resnet/root_block/standardized_conv2d/kernel"}, "BiT npz"),
        ({"resnet/root_block/standardized_conv2d_3/kernel"}, "BiT npz"),
        ({"params/txt/embedding/kernel"}, None),
        ({"resnet/root_block/conv2d/kernel"}, None),
        ({"my/embedding/kernel"}, None),
        (set(), None),
    ],
)
def test_a_format_is_recognised_by_its_names(names, expected):
    assert next((layout.name for layout in LAYOUTS if layout.recognises(names)), None) == expected


def test_parameters_without_a_rule_keep_our_name_or_are_refused():
    params = {"embedding": {"bias": np.ones(3, np.float32)}, "blocks": {"scale1": np.ones((2, 3), np.float32)}}
    assert set(to_file(params, google.RULES)) == {"embedding/bias", "blocks/scale1"}
    with pytest.raises(UserError, match="timm has no place for blocks/scale1; npz can hold every model"):
        to_file(params, google.RULES, strict="timm")
    read = from_file({"registers": np.ones(1), "regs": np.ones(1)}, google.RULES, {})
    assert (list(read.named), read.surplus) == (["registers"], ["regs"])


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ("blocks/norm2/scale", [f"Transformer/encoderblock_{i}/LayerNorm_2/scale" for i in range(3)]),
        ("trunk/block2/units/conv1/kernel", [f"block2/unit{u}/conv1/kernel" for u in (2, 3, 4)]),
        ("norm/bias", ["Transformer/encoder_norm/bias"]),
        ("blocks/scale1", ["blocks/scale1"]),
    ],
)
def test_errors_can_call_parameters_by_the_names_of_the_file(ours, expected):
    assert their_names(ours, 3, google.RULES) == expected


# What formats of PyTorch need: transposed kernels, heads joined, queries, keys and values in one array.
QKV = (
    rule(tuple(f"blocks/{part}/kernel" for part in "qkv"), "blocks.{i}.qkv.weight", "d k e -> (k e) d"),
    rule("head/kernel", "head.weight", "i o -> o i"),
)


def test_arrays_are_joined_transposed_and_taken_apart_again():
    random = np.random.default_rng(0)
    q, k, v = (random.normal(size=(2, 5, 2, 3)).astype(np.float32) for _ in "qkv")
    head = random.normal(size=(5, 4)).astype(np.float32)
    params = {"blocks": {"q": {"kernel": q}, "k": {"kernel": k}, "v": {"kernel": v}}, "head": {"kernel": head}}
    arrays = to_file(params, QKV, strict="test")
    assert {name: array.shape for name, array in arrays.items()} == {
        "blocks.0.qkv.weight": (18, 5),
        "blocks.1.qkv.weight": (18, 5),
        "head.weight": (4, 5),
    }
    for i in range(2):
        for row in range(18):
            part, head_number, e = (q, k, v)[row // 6], row % 6 // 3, row % 3
            np.testing.assert_array_equal(arrays[f"blocks.{i}.qkv.weight"][row], part[i, :, head_number, e])
    np.testing.assert_array_equal(arrays["head.weight"], head.T)
    read = from_file(arrays, QKV, {"k": 2, "unused": 9})
    assert read.problems == []
    released.assert_same(read.named, named_leaves(params))


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("blocks.0.qkv.weight", (17, 5), r"blocks\.0\.qkv\.weight 17x5: the first dimension is not 3 parts"),
        ("blocks.0.qkv.weight", (), r"blocks\.0\.qkv\.weight scalar: the first dimension is not 3 parts"),
        ("blocks.0.qkv.weight", (21, 5), r"blocks\.0\.qkv\.weight 21x5: .*divide axis of length 7 in chunks of 2"),
        ("head.weight", (5,), r"head\.weight 5: .*expected 2 dims.*"),
    ],
)
def test_an_array_that_does_not_fit_its_rule_is_a_problem_with_its_name(name, shape, says):
    read = from_file({name: np.zeros(shape, np.float32)}, QKV, {"k": 2})
    assert read.named == {}
    (problem,) = read.problems
    assert re.fullmatch(says, problem)


def test_missing_layers_are_named_once_each():
    arrays = {f"blocks.{i}.qkv.weight": np.zeros((6, 5), np.float32) for i in (0, 2, 4)}
    read = from_file(arrays, QKV, {"k": 2})
    assert read.problems == ["blocks.1.qkv.weight is missing"]
    arrays = {"blocks.0.qkv.weight": np.zeros((6, 5)), "blocks.1.qkv.weight": np.zeros((6, 4))}
    read = from_file(arrays, QKV, {"k": 2})
    assert read.problems == ["blocks.0.qkv.weight and those of other layers differ in shape"]
