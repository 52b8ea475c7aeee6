"""Position similarity against formulas, for every kind of embedding."""

import itertools
import math

import numpy as np
import pytest

from vit_jax.inspect import cosine_similarity, position_embeddings

from ..models.reference import EMBED, GRID, HEAD_DIM, LAYERS, PATCHES, random_params, small

CELLS = list(itertools.product(range(GRID[0]), range(GRID[1])))


def cosine(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / (math.dist(a, 0 * a) * math.dist(b, 0 * b))


def check(similarity, vector):
    """`similarity` is the cosine of `vector(row, column)` for all pairs of cells."""
    assert (similarity.shape, similarity.dtype) == ((*GRID, *GRID), np.float32)
    for (r, c), (s, d) in itertools.product(CELLS, CELLS):
        assert similarity[r, c, s, d] == pytest.approx(cosine(vector(r, c), vector(s, d)), abs=1e-6)


@pytest.mark.parametrize("registers", [0, 2])
def test_sine_cosine_embeddings_have_the_similarity_of_the_formula(registers):
    """The angle between two places is that of cos(w dx) and cos(w dy) over all frequencies w."""
    model = small(posemb="sincos_2d", registers=registers)
    similarity = cosine_similarity(position_embeddings(model, {}))
    count = EMBED // 4
    frequencies = [10_000.0 ** (-i / (count - 1)) for i in range(count)]
    for (r, c), (s, d) in itertools.product(CELLS, CELLS):
        expected = sum(math.cos(w * (r - s)) + math.cos(w * (c - d)) for w in frequencies) / (2 * count)
        assert similarity[r, c, s, d] == pytest.approx(expected, abs=1e-6)
    flat = similarity.reshape(PATCHES, PATCHES)
    np.testing.assert_array_equal(flat, flat.T)
    np.testing.assert_allclose(np.diag(flat), 1.0, rtol=1e-6)


@pytest.mark.parametrize(("pool", "registers"), [("token", 0), ("token", 2), ("gap", 0), ("gap", 2)])
def test_learned_embeddings_are_compared_without_the_slot_of_the_class_token(pool, registers):
    model = small(pool=pool, registers=registers)
    table = random_params(model)["pos_embedding"]
    rows = np.asarray(table)[0, int(pool == "token") :]
    check(
        cosine_similarity(position_embeddings(model, {"pos_embedding": table})),
        lambda r, c: rows[r * GRID[1] + c],
    )


@pytest.mark.parametrize("at", ["stem", "shared"])
def test_a_two_dimensional_embedding_is_that_of_its_column_and_its_row(at):
    model = small(posemb="learned_2d", posemb_at=at)
    params = random_params(model)
    x, y = (np.asarray(params[f"pos_embedding_{side}"]) for side in "xy")
    check(cosine_similarity(position_embeddings(model, params)), lambda r, c: np.concatenate([x[c], y[r]]))


@pytest.mark.parametrize("kind", ["learned_1d", "learned_2d", "relative"])
def test_each_layer_has_its_own(kind):
    model = small(posemb=kind, posemb_at="every_layer")
    params = random_params(model)
    for layer in range(LAYERS):
        tables = {name: np.asarray(table)[layer] for name, table in params["positions"].items()}
        expected = position_embeddings(small(posemb=kind), tables)
        np.testing.assert_array_equal(position_embeddings(model, params, layer), expected)
    assert not np.array_equal(position_embeddings(model, params, 0), position_embeddings(model, params, 1))


def test_relative_embeddings_are_compared_offset_by_offset():
    model = small(posemb="relative", registers=1)
    table = np.asarray(random_params(model)["relative_embedding"])
    assert table.shape == (2 * model.tokens - 1, HEAD_DIM)
    similarity = cosine_similarity(position_embeddings(model, {"relative_embedding": table}))
    assert similarity.shape == (len(table), len(table))
    for i, j in ((0, 0), (0, len(table) - 1), (3, 7), (len(table) // 2, 1)):
        assert similarity[i, j] == pytest.approx(cosine(table[i], table[j]), abs=1e-6)


def test_an_embedding_that_is_zero_is_like_nothing():
    similarity = cosine_similarity(np.array([[0.0, 0.0], [3.0, 4.0], [-6.0, -8.0]]))
    np.testing.assert_allclose(similarity, [[0, 0, 0], [0, 1, -1], [0, -1, 1]], atol=1e-7)
