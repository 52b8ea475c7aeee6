"""The attention-pooling head against NumPy: one query, then an MLP with a residual."""

import jax
import numpy as np
import pytest
from flax import nnx

from vit_jax.models import ModelSettings
from vit_jax.models.layers import unconstrained
from vit_jax.models.map_head import MapHead
from vit_jax.trees import named_leaves

from . import reference
from .reference import random_images, random_params, small

SIZES = {"width": 16, "heads": 4, "mlp_dim": 24}


def make(**options):
    settings = ModelSettings("mu/4", **{**SIZES, "pool": "map", **options})
    graph, state = nnx.split(MapHead(settings.resolved.encoder, settings, nnx.Rngs(params=0)))
    return graph, nnx.to_pure_dict(state)


def randomised(params):
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0.1, 0.4, leaf.shape).astype(np.float32), params)


@pytest.mark.parametrize(
    "options", [{}, {"norm": "rms", "qk_norm": True, "qkv_bias": False}, {"gelu": "erf"}], ids=["plain", "22B", "erf"]
)
def test_it_is_one_query_of_attention_and_an_mlp_with_a_residual(options):
    graph, params = make(**options)
    params = randomised(params)
    x = np.random.default_rng(1).normal(size=(3, 7, 16)).astype(np.float32)
    y = nnx.merge(graph, params)(x, None, unconstrained)
    head, kind = reference.in_float64(params), options.get("norm", "layer")
    for image in range(3):
        z = reference.attention(x[image].astype(np.float64), head["attn"], kind=kind, probe=head["probe"][0])[0]
        expected = z + reference.mlp(reference.norm(z, head["norm"], kind), head["mlp"], options.get("gelu", "tanh"))
        np.testing.assert_allclose(y[image], expected[0], rtol=2e-5, atol=2e-5)


def test_its_parameters_have_the_documented_names_and_shapes():
    shapes = {name: leaf.shape for name, leaf in named_leaves(make()[1]).items()}
    expected = {"probe": (1, 1, 16), "attn/out/kernel": (4, 4, 16), "attn/out/bias": (16,)}
    for name in ("query", "key", "value"):
        expected |= {f"attn/{name}/kernel": (16, 4, 4), f"attn/{name}/bias": (4, 4)}
    expected |= {"norm/scale": (16,), "norm/bias": (16,), "mlp/dense1/kernel": (16, 24), "mlp/dense1/bias": (24,)}
    assert shapes == expected | {"mlp/dense2/kernel": (24, 16), "mlp/dense2/bias": (16,)}


def test_the_probe_starts_as_a_xavier_uniform_matrix():
    probe = np.asarray(make(width=512)[1]["probe"])
    bound = np.sqrt(6 / (1 + 512))
    assert np.abs(probe).max() <= bound
    assert probe.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)


def test_its_dropout_acts_with_a_key_only():
    x = np.random.default_rng(1).normal(size=(3, 7, 16)).astype(np.float32)
    graph, params = make(attention_dropout=0.5)
    dropping = nnx.merge(graph, randomised(params))
    plain = nnx.merge(make()[0], randomised(params))
    expected = plain(x, None, unconstrained)
    np.testing.assert_array_equal(dropping(x, None, unconstrained), expected)
    assert (dropping(x, jax.random.key(0), unconstrained) != expected).all()


def test_it_does_not_see_registers():
    """In the features of a model, what stands in the registers' places must not reach the head."""
    model = small(pool="map", registers=2)
    params, images = random_params(model), random_images(model)
    features = model.apply(params, images)
    graph, _ = make()
    head = nnx.merge(graph, params["map_head"])
    seen = head(features["tokens"][:, 2:], None, unconstrained)
    np.testing.assert_allclose(features["pre_logits"], seen, rtol=1e-6, atol=1e-6)
    assert np.abs(features["pre_logits"] - head(features["tokens"], None, unconstrained)).max() > 1e-3
