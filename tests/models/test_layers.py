"""The layers every family shares: patch embedding, norms, classifier, dropout, the hooks of a call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vit_jax.models.layers import (
    PatchEmbed,
    drop_path,
    dropout,
    layer_norm,
    make_head,
    make_norm,
    split_key,
    unconstrained,
)

from . import reference


@pytest.mark.parametrize(("rows", "columns", "patch", "channels"), [(2, 3, 4, 3), (3, 1, 2, 1), (1, 2, 1, 3)])
def test_patch_embedding_is_the_convolution_it_stands_for(rows, columns, patch, channels):
    embed = PatchEmbed(patch, channels, 5, jnp.float32, nnx.Rngs(params=0))
    embed.bias[...] = jnp.arange(5.0)
    images = jax.random.normal(jax.random.key(1), (2, rows * patch, columns * patch, channels))
    convolved = jax.lax.conv_general_dilated(
        images, embed.kernel[...], (patch, patch), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = (convolved + jnp.arange(5.0)).reshape(2, rows * columns, 5)
    np.testing.assert_allclose(embed(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("extra", [(0, 1), (3, 0), (2, 3)])
def test_patch_embedding_leaves_out_what_does_not_fill_a_patch(extra):
    embed = PatchEmbed(4, 3, 5, jnp.float32, nnx.Rngs(params=0))
    images = jax.random.normal(jax.random.key(1), (2, 8 + extra[0], 12 + extra[1], 3))
    np.testing.assert_array_equal(embed(images), embed(images[:, :8, :12]))


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_norms_are_their_formulas_also_far_from_zero(kind, epsilon):
    norm = make_norm(kind, 16, jnp.float32, nnx.Rngs(params=0), epsilon)
    random = np.random.default_rng(0)
    params = {"scale": random.normal(size=16), "bias": random.normal(size=16)}
    norm.scale[...] = params["scale"].astype(np.float32)
    if kind == "layer":
        norm.bias[...] = params["bias"].astype(np.float32)
    for mean in (0.0, 1000.0):  # mean(x^2) - mean(x)^2 in float32 would have no correct digit left
        x = (mean + random.normal(size=(3, 16))).astype(np.float32)
        centred = x.astype(np.float64) - (x.mean(-1, keepdims=True, dtype=np.float64) if kind == "layer" else 0.0)
        expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * params["scale"]
        expected = expected + (params["bias"] if kind == "layer" else 0.0)
        np.testing.assert_allclose(norm(x), expected, rtol=1e-4, atol=2e-4)
    assert hasattr(norm, "bias") == (kind == "layer")


def test_a_norm_has_its_statistics_in_float32_and_its_result_in_the_compute_dtype():
    norm = make_norm("layer", 16, jnp.bfloat16, nnx.Rngs(params=0))
    x = jax.random.normal(jax.random.key(0), (4, 16), jnp.bfloat16)
    y = norm(x)
    assert (y.dtype, norm.scale[...].dtype) == (jnp.bfloat16, jnp.float32)
    expected = reference.norm(np.asarray(x, np.float64), {"scale": 1.0, "bias": 0.0})
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=2e-2)  # one rounding of values below 4


def test_the_classifier_starts_with_its_bias_alone_and_computes_in_float32():
    head = make_head(8, 3, -10.0, nnx.Rngs(params=0))
    logits = head(jnp.ones((2, 8), jnp.bfloat16))
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, np.full((2, 3), -10.0))


def test_dropout_needs_a_key():
    x = jnp.ones((4, 4))
    assert dropout(x, 0.9, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate):
    x = np.asarray(dropout(jnp.full(100_000, 3.0), rate, jax.random.key(0)))
    np.testing.assert_allclose(np.unique(x), [0.0, 3.0 / (1.0 - rate)], rtol=1e-6)
    assert (x == 0).mean() == pytest.approx(rate, abs=0.01)
    assert x.mean() == pytest.approx(3.0, rel=0.05)


def test_dropout_depends_on_the_key_alone():
    x = jnp.ones(1000)
    first, again, other = (dropout(x, 0.5, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_dropout_keeps_bfloat16():
    assert dropout(jnp.ones(8, jnp.bfloat16), 0.5, jax.random.key(0)).dtype == jnp.bfloat16


def test_a_dropped_path_is_zero_for_a_whole_image_and_the_mean_stays():
    branch = jnp.broadcast_to(jnp.arange(1.0, 7.0).reshape(2, 3), (20_000, 2, 3))
    y = np.asarray(drop_path(branch, 0.3, jax.random.key(0)))
    kept = (y != 0).all(axis=(1, 2))
    np.testing.assert_array_equal(y[~kept], 0.0)
    np.testing.assert_allclose(y[kept], branch[: kept.sum()] / 0.7, rtol=1e-6)
    assert kept.mean() == pytest.approx(0.7, abs=0.013)  # four standard deviations
    np.testing.assert_allclose(y.mean(axis=0), branch[0], rtol=0.02)


def test_a_path_is_dropped_alike_for_all_rows_of_an_image():
    y = np.asarray(drop_path(jnp.ones((300, 2)), 0.5, jax.random.key(0), per_image=3)).reshape(100, 3, 2)
    assert (y == y[:, :1, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}


def test_no_path_is_dropped_without_a_key_or_at_rate_0():
    branch = jnp.ones((50, 3))
    assert drop_path(branch, 0.9, None) is branch
    np.testing.assert_array_equal(drop_path(branch, jnp.float32(0.0), jax.random.key(0)), branch)


def test_a_dropped_path_keeps_bfloat16():
    assert drop_path(jnp.ones((4, 2), jnp.bfloat16), jnp.float32(0.5), jax.random.key(0)).dtype == jnp.bfloat16


def test_no_key_splits_into_no_keys():
    assert split_key(None, 3) == [None, None, None]
    keys = split_key(jax.random.key(0), 3)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3


def test_names_that_do_not_fit_the_axes_are_a_bug():
    with pytest.raises(ValueError, match="does not name the 2 axes"):
        unconstrained(jnp.zeros((2, 3)), ("batch", "tokens", "embed"))


def test_a_kernel_for_each_device_is_the_function_itself_on_one_device():
    double = unconstrained.per_device(lambda x, y: 2 * x + y, (("batch", "mlp"), ("batch", "mlp")), ("batch", "mlp"))
    np.testing.assert_array_equal(double(jnp.ones((2, 3)), jnp.ones((2, 3))), np.full((2, 3), 3.0))
    with pytest.raises(ValueError, match="does not name the 2 axes"):
        unconstrained.per_device(lambda x: x, (("batch",),), ("batch",))(jnp.ones((2, 3)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradients_of_layer_norm_are_those_of_its_formula(dtype):
    random = np.random.default_rng(0)
    x, gradient = (jnp.asarray(random.normal(3, 2, (2, 5, 24)), dtype) for _ in range(2))
    scale, bias = (jnp.asarray(random.normal(1, 0.3, 24), jnp.float32) for _ in range(2))

    def formula(x, scale, bias):
        wide = x.astype(jnp.float32)
        normal = (wide - wide.mean(-1, keepdims=True)) / jnp.sqrt(wide.var(-1, keepdims=True) + 1e-6)
        return (normal * scale + bias).astype(x.dtype)

    found, expected = (
        jax.vjp(function, x, scale, bias)[1](gradient)
        for function in (lambda x, scale, bias: layer_norm(x, scale, bias, 1e-6), formula)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        limit = 2e-6 if ours.dtype == jnp.float32 else 2**-8
        np.testing.assert_allclose(
            np.float32(ours), np.float32(theirs), rtol=limit, atol=limit * np.abs(np.float32(theirs)).max()
        )
