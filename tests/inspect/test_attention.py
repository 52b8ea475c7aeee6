"""Attention distance, entropy, rollout and head maps of real models whose attention is known."""

import math

import jax
import numpy as np
import pytest

from vit_jax import parallel
from vit_jax.inspect import attention, attention_maps, attention_rollout, attention_statistics, uniform_distance
from vit_jax.models import Model, ModelSettings, normalize

from ..models.reference import forward_batch, random_params
from .constructed import attending, cell_distances, front, images, make, shifted

OTHERS = [{}, {"registers": 3}, {"pool": "gap"}, {"pool": "map", "registers": 2}, {"pool": "first"}]


def by_name(options):
    return " ".join(f"{name}={value}" for name, value in options.items()) or "default"


# --- uniform attention ---


@pytest.mark.parametrize(
    ("size", "options"),
    [((16, 16), {}), ((4, 20), {}), ((4, 4), {}), *(((8, 12), options) for options in OTHERS)],
    ids=str,
)
def test_uniform_attention_has_the_mean_distance_of_all_pairs_of_patches(size, options):
    model = make(size, **options)
    patches = model.grid[0] * model.grid[1]
    found = attention_statistics(model, attending(model, [[None, None]] * 2), images(model, 3))
    assert found.images == 3
    np.testing.assert_allclose(found.distance, np.full((2, 2), cell_distances(model, 4).mean()), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.entropy, math.log2(patches), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.patch_share, patches / model.tokens, rtol=1e-5)
    assert uniform_distance(model.grid, model.stride) == pytest.approx(cell_distances(model, 4).mean(), abs=1e-12)


@pytest.mark.parametrize("options", OTHERS, ids=by_name)
def test_of_uniform_attention_the_rollout_is_a_geometric_series(options):
    """A = 1/n everywhere: what leaves a token in L layers, 1 - 2^-L, is spread evenly over all n."""
    model = make(depth=3, **options)
    found = attention_maps(model, attending(model, [[None, None]] * 3), images(model, 2))
    leaves, n, patches = 1 - 2.0**-3, model.tokens, model.grid[0] * model.grid[1]
    expected = np.full((2, *model.grid), leaves / n)
    if model.settings.pooling == "first":
        expected[:, 0, 0] += 1 - leaves
    elif model.settings.pooling != "token":
        expected += (1 - leaves) / patches
    np.testing.assert_allclose(found.rollout, expected, rtol=1e-5)
    np.testing.assert_allclose(found.heads, np.full((2, 3, 2, *model.grid), 1 / n), rtol=1e-5)


# --- identity ---


@pytest.mark.parametrize("options", OTHERS, ids=by_name)
def test_identity_attention_reaches_nowhere(options):
    model = make(**options)
    params = attending(model, [[range(model.tokens)] * 2] * 2)
    found = attention_statistics(model, params, images(model, 2))
    np.testing.assert_allclose(found.distance, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.entropy, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.patch_share, 1.0, rtol=1e-6)
    reader = {"token": np.zeros(model.grid), "first": np.eye(1, 6).reshape(model.grid)}
    expected = reader.get(model.settings.pooling, np.full(model.grid, 1 / 6))
    maps = attention_maps(model, params, images(model, 1))
    np.testing.assert_allclose(maps.rollout[0], expected, atol=1e-6)
    np.testing.assert_allclose(maps.heads[0], np.broadcast_to(expected, (2, 2, *model.grid)), atol=1e-6)


# --- one neighbour ---


@pytest.mark.parametrize(("size", "options"), [((8, 12), {}), ((16, 8), {"registers": 3})], ids=str)
def test_attention_to_one_neighbour_has_its_distance_in_each_head_and_layer(size, options):
    model = make(size, **options)
    right, below, diagonal = (shifted(model, *by) for by in ((0, 1), (1, 0), (1, 1)))
    params = attending(model, [[right, range(model.tokens)], [diagonal, below]])
    found = attention_statistics(model, params, images(model, 2))
    np.testing.assert_allclose(found.distance, [[4.0, 0.0], [4 * math.sqrt(2), 4.0]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.entropy, 0.0, atol=1e-6)


def test_heads_and_layers_lie_where_they_should():
    model = make(registers=1)
    targets = [[[2 + 3 * layer + head] * model.tokens for head in range(2)] for layer in range(2)]
    heads = attention_maps(model, attending(model, targets), images(model, 3)).heads
    assert heads.shape == (3, 2, 2, 2, 3)
    assert heads.reshape(3, 2, 2, -1).argmax(axis=-1).tolist() == [[[0, 1], [3, 4]]] * 3


def test_the_rollout_of_a_shift_moves_one_token_a_layer():
    """Half stays and half moves on in each layer: after L layers a binomial distribution, from the class token on."""
    depth = 4
    model = make(depth=depth)
    following = [*range(1, model.tokens), 0]
    found = attention_maps(model, attending(model, [[following] * 2] * depth), images(model, 1)).rollout
    expected = [math.comb(depth, j) / 2**depth for j in range(1, model.tokens)]
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)


def test_layers_are_multiplied_in_their_order():
    """The last layer reads a patch, and the first layer fills that patch from another; the other way round nothing."""
    model = make()
    one, two = 1, 2
    to_one = [one, *range(1, model.tokens)]
    to_two = [0, two, *range(2, model.tokens)]
    good, bad = (
        attention_maps(model, attending(model, [[first] * 2, [last] * 2]), images(model, 1)).rollout.ravel()
        for first, last in ((to_two, to_one), (to_one, to_two))
    )
    assert good[two - 1] == pytest.approx(0.25)
    assert bad[two - 1] == pytest.approx(0.0, abs=1e-6)


def test_rollout_is_the_product_of_the_normalised_matrices():
    random = np.random.default_rng(0)
    weights = random.random((3, 2, 5, 5)).astype(np.float32)  # rows need not sum to 1
    reader = random.random(5).astype(np.float32)
    expected = []
    for image in range(2):
        product = np.eye(5)
        for layer in range(3):
            mixed = weights[layer, image].astype(np.float64) + np.eye(5)
            product = (mixed / mixed.sum(axis=1, keepdims=True)) @ product
        expected.append(reader @ product)
    np.testing.assert_allclose(attention_rollout(weights, reader), expected, rtol=1e-5)


# --- class token and registers ---


def test_patches_that_give_patches_nothing_are_not_counted():
    model = make(registers=1)
    sink = [0] * model.tokens
    half = [0, 1, *(sink[2:5]), *range(5, 8)]
    found = attention_statistics(model, attending(model, [[sink, half]] * 2, sharpness=100.0), images(model, 2))
    assert np.isfinite(found.distance).all()
    np.testing.assert_array_equal(found.distance, 0.0)
    np.testing.assert_allclose(found.patch_share, [[0.0, 0.5]] * 2, atol=1e-6)


def brute_force(model, params, pixels, stride):
    """Statistics in float64 from a NumPy model, one query at a time."""
    first, apart = front(model), cell_distances(model, stride)
    weights = forward_batch(params, normalize(pixels), model.settings)["attention"]
    layers, heads = len(weights), weights[0].shape[1]
    found = np.zeros((3, layers, heads))
    for layer in range(layers):
        for head in range(heads):
            each = []
            for matrix in weights[layer][:, head]:
                for query in matrix[first:]:
                    share = query[first:].sum()
                    p = query[first:] / share
                    each.append([p @ apart[len(each) % len(apart)], -(p * np.log2(p)).sum(), share])
            found[:, layer, head] = np.mean(each, axis=0)
    return found


@pytest.mark.parametrize("options", [*OTHERS, {"posemb": "relative", "scan": False}], ids=by_name)
def test_statistics_of_a_random_model_are_those_of_a_numpy_model(options):
    model = make(**options)
    params, pixels = random_params(model), images(model, 3)
    found = attention_statistics(model, params, pixels)
    expected = brute_force(model, params, pixels, 4)
    assert expected[:2].std(axis=(1, 2)).min() > 1e-3
    np.testing.assert_allclose(found.distance, expected[0], rtol=1e-4)
    np.testing.assert_allclose(found.entropy, expected[1], rtol=1e-4)
    np.testing.assert_allclose(found.patch_share, expected[2], rtol=1e-4)


# --- hybrids, pixels ---


def test_a_hybrid_is_measured_in_pixels_of_the_image():
    """15 x 17 pixels are 2 x 3 positions of the trunk, 8 pixels apart."""
    model = make((15, 17), variant="R26+mu/16", trunk_units=(1, 2), patch=1)
    assert (model.grid, model.stride) == ((2, 3), 8)
    params = attending(model, [[None, shifted(model, 0, 1)]] * 2)
    found = attention_statistics(model, params, images(model, 2))
    np.testing.assert_allclose(found.distance, [[cell_distances(model, 8).mean(), 8.0]] * 2, rtol=1e-5)
    assert attention_maps(model, params, images(model, 2)).rollout.shape == (2, 2, 3)


def test_pixels_that_no_patch_covers_do_not_stretch_distances():
    model = make((11, 14))
    assert model.grid == (2, 3)
    found = attention_statistics(model, attending(model, [[shifted(model, 0, 1)] * 2] * 2), images(model, 1))
    np.testing.assert_allclose(found.distance, 4.0, rtol=1e-5)


# --- batches and devices ---


@pytest.mark.parametrize(("mesh", "number"), [({}, 1), ({}, 9), ({"fsdp": 2, "tensor": 2}, 5), (None, 3)], ids=str)
def test_batches_and_meshes_change_nothing(number, mesh, monkeypatch):
    model = make(registers=1, width=64)
    params, pixels = random_params(model), images(model, 9)[:number]
    usual, maps = attention_statistics(model, params, pixels), attention_maps(model, params, pixels)
    monkeypatch.setattr(attention, "_BUDGET", 0)  # one image a device
    if mesh is not None:
        mesh = parallel.make_mesh(parallel.MeshSettings(**mesh))
        shardings = parallel.state_shardings(params, model.shapes, model.logical_axes, mesh)
        params = parallel.on_mesh(params, shardings)
    other, others = attention_statistics(model, params, pixels, mesh), attention_maps(model, params, pixels, mesh)
    assert other.images == number
    for name in ("distance", "entropy", "patch_share"):
        np.testing.assert_allclose(getattr(other, name), getattr(usual, name), rtol=1e-5)
    for name in ("rollout", "heads"):
        np.testing.assert_allclose(getattr(others, name), getattr(maps, name), rtol=1e-5)


def test_memory_does_not_grow_with_depth():
    """Eight layers take as much as two: their attention weights are never all there at once."""

    def working_bytes(depth):
        model = Model(ModelSettings("mu/4", depth=depth, heads=2, width=32, remat="none"), (64, 64), 3, 5)
        step = attention._step(
            model, parallel.make_mesh(parallel.MeshSettings(data=8)), lambda w, *_: w.mean((0, 2, 3)), lambda f, _: f
        )
        batch = {
            "image": jax.ShapeDtypeStruct((8, 64, 64, 3), np.uint8),
            "mask": jax.ShapeDtypeStruct((8,), bool),
        }
        compiled = step.lower(model.abstract_params, batch, jax.ShapeDtypeStruct((), np.float32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes, 2 * model.tokens**2 * 4

    (two, weights), (eight, _) = working_bytes(2), working_bytes(8)
    assert two > weights  # what is measured holds the weights of a layer
    assert eight < two + weights
