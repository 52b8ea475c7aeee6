"""The released npz layout: exactly the published names and shapes, both ways."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.checkpoint import from_released, to_released
from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings
from vit_jax.trees import named_leaves


def random_params(model: Model):
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), model.abstract_params)


def published(model: Model) -> dict[str, tuple[tuple[int, ...], str, int | None]]:
    """{released name: (shape, our name, our layer)}, written from the published description, not from our code."""
    s = model.settings
    d, m, k, layers = s.encoder.width, s.encoder.mlp_dim, s.encoder.heads, s.encoder.depth
    e, p, c = d // k, s.patch, model.classes
    tokens = (model.image_size[0] // p) * (model.image_size[1] // p) + (s.pool == "token")
    table = {
        "embedding/kernel": ((p, p, model.channels, d), "embedding/kernel", None),
        "embedding/bias": ((d,), "embedding/bias", None),
        "Transformer/posembed_input/pos_embedding": ((1, tokens, d), "pos_embedding", None),
        "Transformer/encoder_norm/scale": ((d,), "norm/scale", None),
        "Transformer/encoder_norm/bias": ((d,), "norm/bias", None),
        "head/kernel": ((d, c), "head/kernel", None),
        "head/bias": ((c,), "head/bias", None),
    }
    if s.pool == "token":
        table["cls"] = ((1, 1, d), "cls", None)
    if s.pre_logits:
        table["pre_logits/kernel"] = ((d, d), "pre_logits/kernel", None)
        table["pre_logits/bias"] = ((d,), "pre_logits/bias", None)
    for i in range(layers):
        block = {
            "LayerNorm_0/scale": ((d,), "norm1/scale"),
            "LayerNorm_0/bias": ((d,), "norm1/bias"),
            "MultiHeadDotProductAttention_1/query/kernel": ((d, k, e), "attn/query/kernel"),
            "MultiHeadDotProductAttention_1/query/bias": ((k, e), "attn/query/bias"),
            "MultiHeadDotProductAttention_1/key/kernel": ((d, k, e), "attn/key/kernel"),
            "MultiHeadDotProductAttention_1/key/bias": ((k, e), "attn/key/bias"),
            "MultiHeadDotProductAttention_1/value/kernel": ((d, k, e), "attn/value/kernel"),
            "MultiHeadDotProductAttention_1/value/bias": ((k, e), "attn/value/bias"),
            "MultiHeadDotProductAttention_1/out/kernel": ((k, e, d), "attn/out/kernel"),
            "MultiHeadDotProductAttention_1/out/bias": ((d,), "attn/out/bias"),
            "LayerNorm_2/scale": ((d,), "norm2/scale"),
            "LayerNorm_2/bias": ((d,), "norm2/bias"),
            "MlpBlock_3/Dense_0/kernel": ((d, m), "mlp/dense1/kernel"),
            "MlpBlock_3/Dense_0/bias": ((m,), "mlp/dense1/bias"),
            "MlpBlock_3/Dense_1/kernel": ((m, d), "mlp/dense2/kernel"),
            "MlpBlock_3/Dense_1/bias": ((d,), "mlp/dense2/bias"),
        }
        for name, (shape, ours) in block.items():
            table[f"Transformer/encoderblock_{i}/{name}"] = (shape, f"blocks/{ours}", i)
    return table


@pytest.mark.parametrize(
    ("depth", "pool", "pre_logits", "leaves"),
    [
        (12, "token", False, 200),
        (12, "token", True, 202),
        (12, "gap", False, 199),
        (24, "token", False, 392),
        (32, "token", False, 520),
    ],
)
def test_names_shapes_and_values_are_the_published_ones(depth, pool, pre_logits, leaves):
    options = {"width": 6, "heads": 2, "mlp_dim": 10, "depth": depth, "pool": pool, "pre_logits": pre_logits}
    model = Model(ModelSettings("B/4", **options), (8, 12), 3, 5)
    params = random_params(model)
    arrays, table, ours = to_released(params), published(model), named_leaves(params)
    assert len(arrays) == leaves
    assert {name: array.shape for name, array in arrays.items()} == {name: row[0] for name, row in table.items()}
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    for name, (_, our_name, layer) in table.items():
        np.testing.assert_array_equal(arrays[name], ours[our_name] if layer is None else ours[our_name][layer])


def test_b16_has_the_published_example_shapes():
    model = Model(ModelSettings("B/16"), (224, 224), 3, 21843)
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), model.abstract_params)
    shapes = {name: array.shape for name, array in to_released(zeros).items()}
    block = "Transformer/encoderblock_11"
    assert shapes[f"{block}/MultiHeadDotProductAttention_1/query/kernel"] == (768, 12, 64)
    assert shapes[f"{block}/MultiHeadDotProductAttention_1/query/bias"] == (12, 64)
    assert shapes[f"{block}/MultiHeadDotProductAttention_1/out/kernel"] == (12, 64, 768)
    assert shapes[f"{block}/MlpBlock_3/Dense_0/kernel"] == (768, 3072)
    assert shapes["Transformer/posembed_input/pos_embedding"] == (1, 197, 768)
    assert shapes["head/kernel"] == (768, 21843)
    assert len(shapes) == 200


@settings(deadline=None, max_examples=15)
@given(
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 3),
    depth=st.integers(1, 12),
    mlp_dim=st.integers(1, 5),
    patch=st.integers(1, 3),
    pool=st.sampled_from(["token", "gap"]),
    pre_logits=st.booleans(),
    channels=st.sampled_from([1, 3]),
    classes=st.integers(1, 4),
)
def test_reading_inverts_writing_bit_for_bit(heads, head_dim, depth, mlp_dim, patch, channels, classes, **options):
    shape = {"width": heads * head_dim, "heads": heads, "depth": depth, "mlp_dim": mlp_dim}
    model = Model(ModelSettings(f"mu/{patch}", **shape, **options), (2 * patch, patch), channels, classes)
    params = random_params(model)
    arrays = to_released(params)
    shuffled = dict(sorted(arrays.items(), key=lambda item: item[0][::-1]))
    back = from_released(shuffled, model, "here")
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.fixture(scope="module")
def tiny():
    model = Model(ModelSettings("mu/4", width=4, heads=2, mlp_dim=6, depth=2), (8, 8), 3, 5)
    return model, to_released(random_params(model))


def test_a_missing_array_is_named(tiny):
    model, arrays = tiny
    name = "Transformer/encoderblock_1/LayerNorm_2/bias"
    with pytest.raises(UserError, match=rf"^model\.npz .*{name} is absent there and 4 in this model"):
        from_released({k: v for k, v in arrays.items() if k != name}, model, "model.npz")


def test_a_surplus_array_is_named(tiny):
    model, arrays = tiny
    name = "Transformer/encoderblock_2/LayerNorm_0/bias"
    with pytest.raises(UserError, match=f"{name} is 4 there and absent in this model"):
        from_released({**arrays, name: np.zeros(4, np.float32)}, model, "model.npz")


def test_an_array_of_another_shape_is_named(tiny):
    model, arrays = tiny
    with pytest.raises(UserError, match="head/kernel is 4x9 there and 4x5 in this model"):
        from_released({**arrays, "head/kernel": np.zeros((4, 9), np.float32)}, model, "model.npz")


def test_three_of_many_differences_are_shown(tiny):
    model, arrays = tiny
    with pytest.raises(UserError, match=rf"\(and {len(arrays) - 3} more\)$"):
        from_released({}, model, "model.npz")


@pytest.mark.parametrize("dtype", ["V2", "U4", "complex64"])
def test_an_array_that_holds_no_real_numbers_is_named(tiny, dtype):
    model, arrays = tiny
    with pytest.raises(UserError, match=r"not real numbers: head/bias"):
        from_released({**arrays, "head/bias": np.zeros(5, dtype)}, model, "model.npz")


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_parameters_become_float32_whatever_the_file_holds(tiny, dtype):
    model, arrays = tiny
    params = from_released({name: array.astype(dtype) for name, array in arrays.items()}, model, "model.npz")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
