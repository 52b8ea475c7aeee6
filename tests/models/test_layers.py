"""The layers every family shares: patch embedding, dropout, the hooks of a call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vit_jax.models.layers import PatchEmbed, dropout, split_key, unconstrained


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


def test_no_key_splits_into_no_keys():
    assert split_key(None, 3) == [None, None, None]
    keys = split_key(jax.random.key(0), 3)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3


def test_names_that_do_not_fit_the_axes_are_a_bug():
    with pytest.raises(ValueError, match="does not name the 2 axes"):
        unconstrained(jnp.zeros((2, 3)), ("batch", "tokens", "embed"))
