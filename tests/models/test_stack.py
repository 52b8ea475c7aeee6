"""Stacked layers: own values in each, run in order, the same numbers whatever way they are run."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vit_jax.models.stack import rematerialized, run, stacked

DEPTH, WIDTH = 4, 3
WAYS = list(itertools.product([True, False], ["none", "dots", "full"]))


class Dense(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (WIDTH, WIDTH)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ self.kernel[...])


def primitives(jaxpr) -> collections.Counter:
    """How often each primitive stands in a program; a loop's body counts once."""
    found = collections.Counter(eqn.primitive.name for eqn in jaxpr.eqns)
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += primitives(inner)
    return found


@pytest.fixture(scope="module")
def layers() -> Dense:
    return stacked(Dense, DEPTH, nnx.Rngs(params=0))


def test_stacked_layers_have_a_leading_axis_and_values_of_their_own(layers):
    assert layers.kernel.shape == (DEPTH, WIDTH, WIDTH)
    for a, b in itertools.combinations(np.asarray(layers.kernel[...]), 2):
        assert (a != b).all()


@pytest.mark.parametrize(("scan", "remat"), WAYS)
def test_run_is_the_loop_over_the_layers(layers, scan, remat):
    keys = jax.random.split(jax.random.key(1), DEPTH)

    def body(carry, layer):
        dense, key, number = layer
        x = dense(carry["x"]) + jax.random.normal(key, carry["x"].shape)
        return {"x": x, "calls": carry["calls"] + 1}, {"sum": x.sum(), "number": number, "key": key}

    carry = {"x": jnp.ones((2, WIDTH)), "calls": 0}
    last, outs = run(body, carry, (layers, keys, jnp.arange(DEPTH)), DEPTH, scan=scan, remat=remat)

    x, sums = np.ones((2, WIDTH)), []
    for kernel, key in zip(np.asarray(layers.kernel[...]), keys, strict=True):
        x = np.tanh(x @ kernel) + np.asarray(jax.random.normal(key, x.shape))
        sums.append(x.sum())
    np.testing.assert_allclose(last["x"], x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outs["sum"], sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(outs["number"], range(DEPTH))
    assert (outs["key"] == keys).all()
    assert last["calls"] == DEPTH


@pytest.mark.parametrize(("scan", "remat"), WAYS)
def test_every_way_has_the_gradient_of_the_plain_loop(layers, scan, remat):
    graph, params = nnx.split(layers)

    def loss(params):
        dense = nnx.merge(graph, params)
        x, _ = run(lambda x, dense: (dense(x), None), jnp.ones((2, WIDTH)), dense, DEPTH, scan=scan, remat=remat)
        return (x**2).sum()

    gradient = jax.grad(loss)(params)["kernel"][...]

    xs, kernels = [np.ones((2, WIDTH))], np.asarray(layers.kernel[...], np.float64)
    for kernel in kernels:
        xs.append(np.tanh(xs[-1] @ kernel))
    back, expected = 2 * xs[-1], np.empty_like(kernels)
    for i in reversed(range(DEPTH)):
        inner = back * (1 - xs[i + 1] ** 2)
        expected[i], back = xs[i].T @ inner, inner @ kernels[i].T
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scan", [True, False])
def test_a_body_without_outs_gives_none(layers, scan):
    _, outs = run(lambda x, dense: (dense(x), None), jnp.ones((2, WIDTH)), layers, DEPTH, scan=scan, remat="none")
    assert outs is None


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("depth", [DEPTH - 1, DEPTH + 1])
def test_another_depth_than_the_stack_has_is_a_bug(layers, scan, depth):
    with pytest.raises(ValueError, match=rf"stacked \[{DEPTH}\] deep, not {depth}"):
        run(lambda x, dense: (dense(x), None), jnp.ones((2, WIDTH)), layers, depth, scan=scan, remat="none")


def test_scan_is_one_loop_in_the_program(layers):
    def matmuls(scan: bool) -> int:
        def call(x):
            return run(lambda x, dense: (dense(x), None), x, layers, DEPTH, scan=scan, remat="none")[0]

        return primitives(jax.make_jaxpr(call)(jnp.ones((2, WIDTH))).jaxpr)["dot_general"]

    assert (matmuls(True), matmuls(False)) == (1, DEPTH)


def test_without_remat_the_body_is_left_alone():
    def body(x):
        return x

    assert rematerialized(body, "none") is body
    assert rematerialized(body, "full") is not body


# By kind: forward, and what gives the operation's two gradients.
KEPT = {
    "none": {"matmul": 3, "convolution": 3, "batched": 3},
    "dots": {"matmul": 3, "convolution": 3, "batched": 4},
    "full": {"matmul": 4, "convolution": 4, "batched": 4},
}


@pytest.mark.parametrize("remat", KEPT)
def test_dots_recomputes_neither_matmuls_nor_convolutions_but_batched_matmuls(remat):
    operations = {
        "matmul": (lambda x, w: x @ w, (2, WIDTH), (WIDTH, WIDTH), "dot_general"),
        "batched": (jnp.matmul, (5, 2, WIDTH), (5, WIDTH, WIDTH), "dot_general"),
        "convolution": (
            lambda x, w: jax.lax.conv_general_dilated(x, w, (1,), "SAME"),
            (1, WIDTH, 4),
            (WIDTH, WIDTH, 3),
            "conv_general_dilated",
        ),
    }
    counts = {}
    for kind, (apply, x_shape, w_shape, primitive) in operations.items():

        def loss(x, w, apply=apply):
            # Backward of sin needs the operation's result.
            return rematerialized(lambda x, w: jnp.sin(apply(x, w)), remat)(x, w).sum()

        program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(jnp.ones(x_shape), jnp.ones(w_shape))
        counts[kind] = primitives(program.jaxpr)[primitive]
    assert counts == KEPT[remat]


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_gradients_of_unrolled_layers_are_put_together_once(layers, remat):
    """Not padded to all layers and added up, layer after layer."""

    def loss(kernel):
        def layer(x, kernel):
            return jnp.tanh(x @ kernel), None

        x, _ = run(layer, jnp.ones((2, WIDTH)), kernel, DEPTH, scan=False, remat=remat)
        return (x**2).sum()

    program = jax.make_jaxpr(jax.grad(loss))(layers.kernel[...]).jaxpr
    whole = [eqn.primitive.name for eqn in program.eqns if eqn.outvars[0].aval.shape == (DEPTH, WIDTH, WIDTH)]
    assert len(whole) == 1, whole
