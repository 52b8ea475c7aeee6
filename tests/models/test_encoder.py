"""Stacked blocks: own values in every layer, the same numbers whatever way they are run."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vit_jax.models import EncoderShape, Model, ModelSettings
from vit_jax.models.attention import dot_product_attention
from vit_jax.models.encoder import run_blocks, stacked_blocks
from vit_jax.models.layers import unconstrained
from vit_jax.trees import named_leaves

WAYS = list(itertools.product([True, False], ["none", "dots", "full"]))


def small(**options) -> Model:
    return Model(ModelSettings("mu/4", **{"width": 16, "mlp_dim": 32, "depth": 2, **options}), (8, 12), 3, 7)


def loss_and_gradient(model: Model):
    images = np.random.default_rng(1).uniform(-1, 1, (2, *model.image_size, 3)).astype(np.float32)

    def loss(params):
        return (model.apply(params, images, dropout_key=jax.random.key(6))["logits"] ** 2).sum()

    return jax.jit(jax.value_and_grad(loss))


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32), small().abstract_params)


@pytest.fixture(scope="module")
def plain(params):
    return loss_and_gradient(small(dropout=0.3, scan=False, remat="none"))(params)


@pytest.mark.parametrize(("scan", "remat"), WAYS)
def test_scan_and_remat_change_neither_loss_nor_gradient_with_dropout_on(params, plain, scan, remat):
    loss, gradient = loss_and_gradient(small(dropout=0.3, scan=scan, remat=remat))(params)
    assert loss == pytest.approx(float(plain[0]), rel=1e-5)
    for name, leaf in named_leaves(gradient).items():
        expected = named_leaves(plain[1])[name]
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_more_remat_keeps_fewer_bytes_for_backward():
    def bytes_kept(remat: str) -> int:
        model = small(depth=6, remat=remat)
        step = loss_and_gradient(model).lower(model.abstract_params).compile()
        return step.memory_analysis().temp_size_in_bytes

    assert bytes_kept("none") > bytes_kept("dots") > bytes_kept("full")


def test_scan_is_one_loop_in_the_program(params):
    def blocks_traced(scan: bool) -> int:
        model = small(depth=5, scan=scan, remat="none")
        program = jax.jit(model.apply).lower(model.abstract_params, jnp.zeros((1, 8, 12, 3)))
        return program.as_text().count("stablehlo.tanh")

    assert (blocks_traced(True), blocks_traced(False)) == (1, 5)


def test_layers_are_initialised_differently():
    blocks = small().init(jax.random.key(0))["blocks"]
    for name, leaf in named_leaves(blocks).items():
        if name.endswith("kernel"):
            for a, b in itertools.combinations(leaf, 2):
                assert np.mean(a == b) < 0.01, name


def test_layers_run_in_order(params):
    model = small()
    images = jnp.ones((1, 8, 12, 3))
    backwards = {**params, "blocks": jax.tree.map(lambda leaf: leaf[::-1], params["blocks"])}
    assert not np.allclose(model.apply(params, images)["logits"], model.apply(backwards, images)["logits"], atol=1e-3)


@pytest.mark.parametrize("scan", [True, False])
def test_every_layer_draws_its_own_dropout_mask(scan):
    shape = EncoderShape(width=8, depth=2, mlp_dim=4, heads=2)
    graph, params = nnx.split(stacked_blocks(shape, 0.5, jnp.float32, nnx.Rngs(params=0)))
    params = jax.tree.map(jnp.zeros_like, nnx.to_pure_dict(params))
    params["mlp"]["dense2"]["bias"] += 1.0  # each block now adds a bare mask of 0 and 2
    x = jnp.zeros((4, 16, 8))
    blocks = nnx.merge(graph, params)
    y = run_blocks(blocks, 2, x, jax.random.key(0), unconstrained, scan=scan, remat="none")
    assert set(np.unique(y)) == {0.0, 2.0, 4.0}


def draws(jaxpr) -> int:
    """How often a program draws random bits."""
    inner = [value.jaxpr for eqn in jaxpr.eqns for value in eqn.params.values() if hasattr(value, "jaxpr")]
    return sum(eqn.primitive.name == "random_bits" for eqn in jaxpr.eqns) + sum(map(draws, inner))


def test_dropout_follows_the_positions_and_every_dense_layer_but_query_key_value():
    model = small(dropout=0.5, scan=False, remat="none")

    def call(params, key):
        return model.apply(params, jnp.zeros((1, 8, 12, 3)), dropout_key=key)

    program = jax.make_jaxpr(call)(model.abstract_params, jax.random.key(0))
    assert draws(program.jaxpr) == 1 + 3 * 2  # positions; then out, dense1 and dense2 of two layers


def test_attention_agrees_with_jax():
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 5, 4, 8))
    expected = jax.nn.dot_product_attention(query, key, value)
    np.testing.assert_allclose(dot_product_attention(query, key, value), expected, rtol=1e-5, atol=1e-6)


def test_attention_takes_its_softmax_in_float32():
    # The logits are 258 and 257; bfloat16 knows 256 and 258, and would give other weights than sigmoid(1).
    query = jnp.array([2.0, 2.0, 0.0, 0.0], jnp.bfloat16).reshape(1, 1, 1, 4)
    key = jnp.array([[256.0, 2.0, 0.0, 0.0], [256.0, 1.0, 0.0, 0.0]], jnp.bfloat16).reshape(1, 2, 1, 4)
    value = jnp.array([1.0, 0.0], jnp.bfloat16).reshape(1, 2, 1, 1)
    weight = dot_product_attention(query, key, value)
    assert float(weight.squeeze()) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.01)
