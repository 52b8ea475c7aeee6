"""Position embeddings: every kind at every place, against formulas and a NumPy version of the whole model."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vit_jax.models.posemb import TokenLayout, position_table, sincos_2d, stacked_tables
from vit_jax.models.settings import PLACES, POSEMBS

from .reference import (
    EMBED,
    GRID,
    HEAD_DIM,
    LAYERS,
    PATCH,
    PATCHES,
    forward_batch,
    random_images,
    random_params,
    small,
)

ALL = list(itertools.product(POSEMBS, PLACES))
REGISTERS = 2


def tables_of(kind: str, tokens: int, cls: int) -> dict[str, tuple[int, ...]]:
    return {
        "learned_1d": {"pos_embedding": (1, cls + PATCHES, EMBED)},
        "learned_2d": {"pos_embedding_y": (GRID[0], EMBED // 2), "pos_embedding_x": (GRID[1], EMBED // 2)},
        "relative": {"relative_embedding": (2 * tokens - 1, HEAD_DIM)},
        "sincos_2d": {},
        "none": {},
    }[kind]


@pytest.mark.parametrize("pool", ["token", "gap"])
@pytest.mark.parametrize(("kind", "at"), ALL)
def test_tables_have_the_documented_names_and_shapes(kind, at, pool):
    options = {"pool": pool, "registers": REGISTERS}
    without = small(posemb="none", **options).shapes
    shapes = small(posemb=kind, posemb_at=at, **options).shapes
    cls = int(pool == "token")
    expected = tables_of(kind, cls + REGISTERS + PATCHES, cls)
    if at == "every_layer":
        expected = {f"positions/{name}": (LAYERS, *shape) for name, shape in expected.items()}
    assert shapes == without | expected


@pytest.mark.parametrize(("kind", "at"), ALL)
def test_features_are_those_of_the_formulas(kind, at):
    model = small(posemb=kind, posemb_at=at, registers=REGISTERS)
    params, images = random_params(model), random_images(model, 2)
    features = model.apply(params, images, blocks=True)
    expected = forward_batch(params, images, model.settings)
    assert expected["logits"].std() > 0.1
    for layer in range(LAYERS):
        np.testing.assert_allclose(features["blocks"][layer], expected["blocks"][layer], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features["logits"], expected["logits"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("kind", "at"), ALL)
def test_only_positions_tell_permuted_patches_apart(kind, at):
    model = small(posemb=kind, posemb_at=at, pool="gap")
    params, images = random_params(model), random_images(model, 2)
    cells = images.reshape(2, GRID[0], PATCH, GRID[1], PATCH, 3).swapaxes(2, 3).reshape(2, PATCHES, PATCH, PATCH, 3)
    mixed = cells[:, [4, 2, 0, 5, 3, 1]].reshape(2, *GRID, PATCH, PATCH, 3).swapaxes(2, 3).reshape(images.shape)
    difference = np.abs(model.apply(params, mixed)["logits"] - model.apply(params, images)["logits"]).max()
    assert difference < 1e-5 if kind == "none" else difference > 1e-3


def test_relative_embeddings_at_the_stem_act_in_the_first_layer_only():
    """Without keys, all logits of the attention come from the offsets."""
    model = small(posemb="relative")
    params = random_params(model)
    params["blocks"]["attn"]["key"] = jax.tree.map(jnp.zeros_like, params["blocks"]["attn"]["key"])
    images = random_images(model, 1)
    first, second = model.apply(params, images, attention=True)["attention"]
    assert first.std() > 0.01
    np.testing.assert_allclose(second, 1 / model.tokens, rtol=1e-6)
    shared = small(posemb="relative", posemb_at="shared")
    assert all(w.std() > 0.01 for w in shared.apply(params, images, attention=True)["attention"])


@pytest.mark.parametrize("kind", ["learned_1d", "learned_2d", "sincos_2d"])
def test_registers_and_class_token_have_no_position_but_learned_1d_gives_the_class_token_one(kind):
    sequence = TokenLayout(GRID, 1, REGISTERS, EMBED, HEAD_DIM)

    class Ones:
        """Tables full of ones."""

        pos_embedding = np.ones((1, 1 + PATCHES, EMBED))
        pos_embedding_y = np.ones((GRID[0], EMBED // 2))
        pos_embedding_x = np.ones((GRID[1], EMBED // 2))

    table = np.asarray(position_table(kind, Ones, sequence))
    assert table.shape == (1, 1 + REGISTERS + PATCHES, EMBED)
    np.testing.assert_array_equal(table[0, 0], 1.0 if kind == "learned_1d" else 0.0)
    np.testing.assert_array_equal(table[0, 1 : 1 + REGISTERS], 0.0)
    assert (np.abs(table[0, 1 + REGISTERS :]).max(axis=-1) > 0).all()


@pytest.mark.parametrize("kind", ["relative", "none"])
def test_what_is_not_added_is_nothing(kind):
    assert position_table(kind, None, TokenLayout(GRID, 1, 0, EMBED, HEAD_DIM)) is None


@pytest.mark.parametrize(("grid", "width"), [((2, 3), 16), ((5, 4), 8), ((3, 3), 4)])
def test_sine_cosine_table_is_the_formula(grid, width):
    table = sincos_2d(grid, width)
    assert (table.shape, table.dtype) == ((*grid, width), np.float32)
    count = width // 4
    for row, column, index in itertools.product(range(grid[0]), range(grid[1]), range(count)):
        angle = 10_000.0 ** (-index / max(1, count - 1))
        expected = [f(p * angle) for p in (column, row) for f in (math.sin, math.cos)]
        np.testing.assert_allclose(table[row, column, index::count], expected, rtol=1e-6, atol=1e-7)


def test_tables_start_at_a_deviation_of_a_fiftieth_and_differ_by_layer():
    table = stacked_tables("learned_1d", TokenLayout((8, 8), 1, 0, 64, 16), 3, nnx.Rngs(params=0)).pos_embedding[...]
    assert (table.shape, table.dtype) == ((3, 1, 65, 64), np.float32)
    assert float(table.std()) == pytest.approx(0.02, rel=0.05)
    assert (table[0] != table[1]).mean() > 0.99
