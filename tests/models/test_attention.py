"""The attention module: equations, relative logits, norms of queries and keys, dropout of weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vit_jax.models import ModelSettings
from vit_jax.models.attention import Attention, relative_logits
from vit_jax.models.layers import unconstrained
from vit_jax.trees import named_leaves

from . import reference

SETTINGS = {"width": 16, "heads": 4, "depth": 1}


def make(**options):
    """An attention module with random parameters, and these as float64 arrays."""
    settings = ModelSettings("mu/4", **{**SETTINGS, **options})
    module = Attention(settings.resolved.encoder, settings, nnx.Rngs(params=0))
    graph, state = nnx.split(module)
    random = np.random.default_rng(0)
    params = nnx.to_pure_dict(state)
    params = jax.tree.map(lambda leaf: random.normal(0.1, 0.4, leaf.shape).astype(np.float32), params)
    return nnx.merge(graph, params), reference.in_float64(params)


def tokens(number: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, number, width)).astype(np.float32)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize(("qk_norm", "qkv_bias"), [(False, True), (True, False), (True, True)])
def test_outputs_and_weights_are_those_of_the_equations(norm, qk_norm, qkv_bias):
    module, params = make(qk_norm=qk_norm, qkv_bias=qkv_bias, norm=norm)
    x = tokens(5)
    mixed, weights = module(x, None, unconstrained, weights=True)
    for image in range(2):
        expected, found = reference.attention(x[image].astype(np.float64), params, kind=norm)
        np.testing.assert_allclose(mixed[image], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(weights[image], found, rtol=1e-5, atol=1e-6)
    plain, none = module(x, None, unconstrained)
    assert none is None
    np.testing.assert_allclose(plain, mixed, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_parameters_have_the_documented_names_and_shapes(qk_norm, qkv_bias, norm):
    expected = {"out/kernel": (4, 4, 16), "out/bias": (16,)}
    for name in ("query", "key", "value"):
        expected |= {f"{name}/kernel": (16, 4, 4)} | ({f"{name}/bias": (4, 4)} if qkv_bias else {})
    for name in ("query_norm", "key_norm") if qk_norm else ():
        expected |= {f"{name}/scale": (4,)} | ({f"{name}/bias": (4,)} if norm == "layer" else {})
    settings = ModelSettings("mu/4", **SETTINGS, qk_norm=qk_norm, qkv_bias=qkv_bias, norm=norm)
    module = nnx.eval_shape(lambda: Attention(settings.resolved.encoder, settings, nnx.Rngs(params=0)))
    shapes = {name: leaf.shape for name, leaf in named_leaves(nnx.to_pure_dict(nnx.state(module))).items()}
    assert shapes == expected


def test_attention_agrees_with_jax():
    module, params = make()
    x = tokens(5)
    query, key, value = (
        np.einsum("bnd,dke->bnke", x, params[n]["kernel"]) + params[n]["bias"] for n in ("query", "key", "value")
    )
    mixed = jax.nn.dot_product_attention(*(jnp.asarray(a, jnp.float32) for a in (query, key, value)))
    expected = np.einsum("bnke,ked->bnd", mixed, params["out"]["kernel"]) + params["out"]["bias"]
    np.testing.assert_allclose(module(x, None, unconstrained)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_probe_makes_the_queries():
    module, params = make()
    x, probe = tokens(5), tokens(2, seed=1)
    mixed, weights = module(x, None, unconstrained, probe=probe, weights=True)
    assert weights.shape == (2, 4, 2, 5)
    for image in range(2):
        expected, _ = reference.attention(x[image].astype(np.float64), params, probe=probe[image].astype(np.float64))
        np.testing.assert_allclose(mixed[image], expected, rtol=1e-5, atol=1e-5)


def test_attention_takes_its_softmax_in_float32():
    # The logits are 258 and 257; bfloat16 knows 256 and 258, and would give other weights than sigmoid(1).
    module, _ = make(width=4, heads=1, dtype="bfloat16")
    identity = np.eye(4, dtype=np.float32)
    for name, kernel in (("query", identity), ("key", identity), ("value", np.eye(4, k=-1, dtype=np.float32))):
        getattr(module, name).kernel[...] = kernel[:, None, :]
        getattr(module, name).bias[...] = jnp.zeros((1, 4))
    module.value.bias[...] = jnp.array([[-1.0, 0.0, 0.0, 0.0]])  # a token's value starts with its second number less 1
    module.out.kernel[...] = identity[None]
    module.out.bias[...] = jnp.zeros(4)
    probe = jnp.array([[[2.0, 2.0, 0.0, 0.0]]], jnp.bfloat16)
    x = jnp.array([[[256.0, 2.0, 0.0, 0.0], [256.0, 1.0, 0.0, 0.0]]], jnp.bfloat16)
    mixed, _ = module(x, None, unconstrained, probe=probe)
    assert float(mixed[0, 0, 0]) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.01)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_relative_logits_are_the_products_with_each_offsets_embedding(n):
    heads, e = 3, 4
    random = np.random.default_rng(0)
    query = random.normal(size=(2, n, heads, e)).astype(np.float32)
    offsets = random.normal(size=(2 * n - 1, e)).astype(np.float32)
    logits = relative_logits(query, offsets)
    assert (logits.shape, logits.dtype) == ((2, heads, n, n), np.float32)
    for b, k, i, j in itertools.product(range(2), range(heads), range(n), range(n)):
        expected = query[b, i, k].astype(np.float64) @ offsets[(n - 1) + (i - j)] / np.sqrt(e)
        assert float(logits[b, k, i, j]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_relative_logits_are_added_to_the_others():
    module, params = make()
    x, offsets = tokens(5), np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    mixed, weights = module(x, None, unconstrained, offsets=offsets, weights=True)
    for image in range(2):
        expected, found = reference.attention(x[image].astype(np.float64), params, offsets=offsets.astype(np.float64))
        np.testing.assert_allclose(mixed[image], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(weights[image], found, rtol=1e-5, atol=1e-6)


def test_attention_dropout_zeroes_weights_and_keeps_their_mean():
    """Uniform attention over values of 1, so that an output is the sum of the weights that are left."""
    module, _ = make(width=8, heads=8, attention_dropout=0.25)
    for part in (module.query, module.key, module.value):
        part.kernel[...] = jnp.zeros((8, 8, 1))
    module.value.bias[...] = jnp.ones((8, 1))
    module.out.kernel[...] = jnp.eye(8)[:, None, :]
    module.out.bias[...] = jnp.zeros(8)
    n = 64
    x = jnp.zeros((4, n, 8))
    sums, weights = module(x, jax.random.key(0), unconstrained, weights=True)
    kept = np.asarray(sums) * 0.75 * n
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-3)
    assert kept.mean() == pytest.approx(0.75 * n, rel=0.01)  # 131,072 weights: one deviation is 0.16 %
    assert kept.std() == pytest.approx(np.sqrt(n * 0.75 * 0.25), rel=0.1)
    assert len({tuple(row) for row in kept.reshape(-1, 8)}) > 200  # every query has a mask of its own
    np.testing.assert_allclose(weights, 1 / n, rtol=1e-6)  # what is returned is not dropped
    np.testing.assert_allclose(module(x, None, unconstrained)[0], 1.0, rtol=1e-6)
