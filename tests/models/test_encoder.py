"""Stacked blocks: own values in every layer, the same numbers whatever way they are run, dropout of all kinds."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import Model, ModelSettings
from vit_jax.models.layers import unconstrained
from vit_jax.trees import named_leaves

from .elsewhere import Elsewhere
from .reference import CLASSES, random_images, random_params, small, zero_params

RANDOM = {"dropout": 0.3, "attention_dropout": 0.2, "stochastic_depth": 0.5}
SCANNED = [(True, "none"), (True, "dots"), (True, "full")]

# What is run, and by which (scan, remat) besides unrolled without remat. Each way takes seconds to compile.
RUNS = {
    "plain": ({}, SCANNED),
    "all dropouts": ({**RANDOM, "patch_dropout": 0.3}, [(True, "dots"), (True, "full"), (False, "full")]),
    "relative": ({"posemb": "relative", "posemb_at": "every_layer"}, SCANNED[1:]),
    "axial": ({"axial": True, "pool": "gap", "posemb_at": "shared", "layer_scale": 0.5}, SCANNED[1:]),
    "hybrid": ({"variant": "R26+mu/16", "trunk_units": (3,), "depth": 1}, SCANNED[1:]),
    "ResNet": ({"variant": "R26x1", "trunk_units": (3,)}, SCANNED[1:]),
}


def model_of(name: str, **options) -> Model:
    options = {**RUNS[name][0], **options}
    return Model(ModelSettings(**options), (8, 12), 3, CLASSES) if name == "ResNet" else small(**options)


def loss_and_gradient(model: Model):
    images = random_images(model, 2)

    def loss(params):
        return (model.apply(params, images, dropout_key=jax.random.key(6))["logits"] ** 2).sum()

    return jax.jit(jax.value_and_grad(loss))


@pytest.fixture(scope="module")
def plainly():
    """{name: (parameters, loss, gradient)} of unrolled runs without remat, made on demand."""
    found = {}

    def run(name):
        if name not in found:
            model = model_of(name, scan=False, remat="none")
            params = random_params(model)
            found[name] = (params, *loss_and_gradient(model)(params))
        return found[name]

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scan", "remat"), [(name, *way) for name in RUNS for way in RUNS[name][1]])
def test_scan_and_remat_change_neither_loss_nor_gradient(plainly, name, scan, remat):
    params, wanted, wanted_gradient = plainly(name)
    loss, gradient = loss_and_gradient(model_of(name, scan=scan, remat=remat))(params)
    assert float(wanted) > 0.1
    assert loss == pytest.approx(float(wanted), rel=1e-5)
    for path, leaf in named_leaves(gradient).items():
        expected = np.asarray(named_leaves(wanted_gradient)[path])
        atol = 1e-6 + 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=atol, err_msg=path)


def test_more_remat_keeps_fewer_bytes_for_backward():
    def bytes_kept(remat: str) -> int:
        model = small(depth=6, scan=True, remat=remat)
        step = loss_and_gradient(model).lower(model.abstract_params).compile()
        return step.memory_analysis().temp_size_in_bytes

    assert bytes_kept("none") > bytes_kept("dots") > bytes_kept("full")


@pytest.mark.parametrize(
    ("remat", "scan", "constrain", "again"),
    [
        ("none", True, unconstrained, 1),
        ("none", False, unconstrained, 2),  # one in each block
        ("none", True, Elsewhere("tpu"), 1),
        ("none", False, Elsewhere("tpu"), 0),  # XLA sees to it
        ("full", False, unconstrained, 2),  # whole blocks, and nothing within them
    ],
)
def test_gelu_is_made_again_where_all_else_is_kept(remat, scan, constrain, again):
    model = small(depth=2, scan=scan, remat=remat)
    images = random_images(model, 1)
    program = jax.make_jaxpr(lambda params: model.apply(params, images, constrain=constrain)["logits"])
    assert len(re.findall(r"= (?:remat\d?|checkpoint)\[", str(program(model.abstract_params)))) == again


def test_scan_is_one_loop_in_the_program():
    def blocks_traced(scan: bool) -> int:
        model = small(depth=5, scan=scan, remat="none")
        program = jax.jit(model.apply).lower(model.abstract_params, jnp.zeros((1, 8, 12, 3)))
        return program.as_text().count("stablehlo.tanh")

    assert (blocks_traced(True), blocks_traced(False)) == (1, 5)


@pytest.mark.parametrize("axial", [False, True])
def test_layers_are_initialised_differently(axial):
    blocks = jax.jit(small(axial=axial, pool="gap").init)(jax.random.key(0))["blocks"]
    kernels = [leaf for name, leaf in named_leaves(blocks).items() if name.endswith("kernel")]
    for leaf in kernels:
        for a, b in itertools.combinations(leaf, 2):
            assert np.mean(a == b) < 0.01
    for a, b in itertools.combinations(kernels, 2):
        assert a.shape != b.shape or np.mean(a == b) < 0.01


def test_layers_run_in_order():
    model = small()
    params, images = random_params(model), jnp.ones((1, 8, 12, 3))
    backwards = {**params, "blocks": jax.tree.map(lambda leaf: leaf[::-1], params["blocks"])}
    logits, others = (model.apply(p, images)["logits"] for p in (params, backwards))
    assert not np.allclose(logits, others, atol=1e-3)


@pytest.mark.parametrize("scan", [True, False])
def test_every_layer_draws_its_own_dropout_mask(scan):
    model = small(dropout=0.5, scan=scan, remat="none")
    params = zero_params(model)
    params["blocks"]["mlp"]["dense2"]["bias"] += 1.0  # each block now adds a bare mask of 0 and 2
    x = model.apply(params, jnp.zeros((4, 8, 12, 3)), dropout_key=jax.random.key(0), blocks=True)["blocks"][-1]
    assert set(np.unique(x)) == {0.0, 2.0, 4.0}


def draws(jaxpr) -> int:
    """How often a program draws random bits."""
    inner = [value.jaxpr for eqn in jaxpr.eqns for value in eqn.params.values() if hasattr(value, "jaxpr")]
    return sum(eqn.primitive.name == "random_bits" for eqn in jaxpr.eqns) + sum(map(draws, inner))


@pytest.mark.parametrize(
    ("options", "stem", "block"),
    [
        ({}, 0, 0),
        ({"dropout": 0.5}, 1, 3),  # positions; out, dense1 and dense2
        ({"dropout": 0.5, "axial": True, "pool": "gap"}, 1, 6),
        ({"attention_dropout": 0.5}, 0, 1),
        ({"stochastic_depth": 0.5}, 0, 2),
        ({"stochastic_depth": 0.5, "parallel": True}, 0, 2),
        ({"patch_dropout": 0.5}, 1, 0),
    ],
)
def test_each_kind_of_dropout_draws_where_it_should_and_never_without_a_key(options, stem, block):
    model = small(scan=False, remat="none", **options)

    def call(params, key):
        return model.apply(params, jnp.zeros((1, 8, 12, 3)), dropout_key=key)["logits"]

    with_key = jax.make_jaxpr(call)(model.abstract_params, jax.random.key(0))
    assert draws(with_key.jaxpr) == stem + 2 * block
    without = jax.make_jaxpr(lambda params: call(params, None))(model.abstract_params)
    assert draws(without.jaxpr) == 0


# --- stochastic depth ---

ATTENTION, MLP = 1.0, 10.0


def bare_branches(batch: int, **options):
    """What each block adds (layers, b, n), when its attention adds 1 and its MLP 10, dropped or not."""
    sizes = {"width": 4, "heads": 1, "mlp_dim": 4, "depth": 4, "posemb": "none", "pool": "gap", "remat": "none"}
    model = Model(ModelSettings("mu/1", **{**sizes, **options}), (2, 3), 1, 2)
    params = zero_params(model)
    for block in params["blocks"].values() if model.settings.axial else [params["blocks"]]:
        block["attn"]["out"]["bias"] += ATTENTION
        block["mlp"]["dense2"]["bias"] += MLP
    apply = jax.jit(model.apply, static_argnames="blocks")

    def added(key):
        x = apply(params, jnp.zeros((batch, 2, 3, 1)), dropout_key=key, blocks=True)["blocks"]
        x = np.asarray(jnp.stack(x), np.float64)
        assert (x == x[..., :1]).all()
        return np.diff(x[..., 0], axis=0, prepend=0.0)

    return added


@pytest.mark.parametrize("parallel", [False, True])
def test_stochastic_depth_grows_linearly_and_keeps_the_mean(parallel):
    batch, rates = 4000, np.array([0.0, 0.2, 0.4, 0.6])
    added = bare_branches(batch, stochastic_depth=0.6, parallel=parallel)
    found = added(jax.random.key(0))
    assert (found == found[..., :1]).all()  # the whole image or nothing
    for layer, rate in enumerate(rates):
        mine = found[layer, :, 0] * (1.0 - rate)
        outcomes = np.array([0.0, ATTENTION, MLP, ATTENTION + MLP])
        nearest = outcomes[np.abs(mine[:, None] - outcomes).argmin(axis=1)]
        np.testing.assert_allclose(mine, nearest, atol=1e-4)
        deviation = np.sqrt(rate * (1 - rate) / batch)
        for branch in (nearest % 10 == ATTENTION, nearest >= MLP):
            assert abs(branch.mean() - (1.0 - rate)) <= 4 * deviation
        both = ((nearest % 10 == ATTENTION) & (nearest >= MLP)).mean()
        assert abs(both - (1.0 - rate) ** 2) <= 0.04  # the branches are dropped independently
        np.testing.assert_array_equal(found[layer, nearest == 0.0], 0.0)  # x stays as it was
        error = np.sqrt((ATTENTION**2 + MLP**2) * rate / (1 - rate) / batch)
        assert abs(found[layer].mean() - (ATTENTION + MLP)) <= 4 * error + 1e-5


def test_stochastic_depth_needs_a_key():
    np.testing.assert_array_equal(bare_branches(8, stochastic_depth=0.6)(None), ATTENTION + MLP)


def test_stochastic_depth_drops_branches_of_whole_images_in_axial_blocks_too():
    added = bare_branches(64, stochastic_depth=0.6, axial=True)
    found = added(jax.random.key(0))
    np.testing.assert_allclose(found, np.broadcast_to(found[..., :1], found.shape), atol=1e-4)
    assert len(np.unique(np.round(found[-1, :, 0] * 0.4))) > 4  # of 0, 1, 2, 10, 11, 12, 20, 21, 22
    np.testing.assert_allclose(added(None), 2 * (ATTENTION + MLP), rtol=1e-6)
