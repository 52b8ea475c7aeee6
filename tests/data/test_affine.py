"""The graph operation that moves a whole image, against NumPy and SciPy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from vit_jax.data import affine
from vit_jax.data.ops import Context

pytestmark = pytest.mark.needs_tf


def apply(image, seed=(1, 2), **arguments):
    context = Context(image.shape[:2], image.shape[-1], tf.constant(seed, tf.int32))
    return affine.random_affine(tf.constant(image), context, **arguments).numpy()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_it_keeps_type_and_shape():
    found = apply(noise(23, 31, 3))
    assert (found.dtype, found.shape) == (np.uint8, (23, 31, 3))


def test_it_is_a_function_of_the_seed_alone():
    image = noise(12, 14, 3)
    first, again = ([apply(image, seed=(5, n)).tobytes() for n in range(20)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 10


def moved_by(monkeypatch, image, turn=0.0, down=0.0, right=0.0, zoom=0.0, **amounts):
    """`random_affine` with these draws in place of its random ones."""
    monkeypatch.setattr(affine, "uniform", lambda *_: tf.constant([turn, down, right, zoom]))
    return apply(image, **{"degrees": 0.0, "shift": 0.0, "scale": 0.0, **amounts})


def test_affine_by_nothing_is_the_identity():
    image = noise(11, 14, 3)
    for n in range(5):
        assert np.array_equal(apply(image, seed=(0, n), degrees=0.0, shift=0.0, scale=0.0), image)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_affine_by_right_angles_turns_about_the_centre(monkeypatch, side, quarters):
    image = noise(side, side, 3)
    found = moved_by(monkeypatch, image, turn=1.0, degrees=90.0 * quarters)
    assert abs(found.astype(int) - np.rot90(image, quarters)).max() <= 1  # bilinear, at almost whole places


def test_affine_shifts_by_parts_of_the_sides_and_repeats_edges(monkeypatch):
    image = noise(10, 20, 3)
    found = moved_by(monkeypatch, image, down=1.0, right=-0.5, shift=0.2)
    expected = np.pad(image, ((0, 2), (2, 0), (0, 0)), mode="edge")[2:, :20]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(12, 12, 3), (9, 16, 1)])
def test_affine_of_everything_equals_scipy(monkeypatch, shape):
    image = noise(*shape)
    draws = {"turn": 0.7, "down": -0.4, "right": 0.9, "zoom": 0.5}
    found = moved_by(monkeypatch, image, **draws, degrees=30.0, shift=0.1, scale=0.2)

    height, width, channels = shape
    centre, sides = np.array([height - 1, width - 1]) / 2, np.array([height, width])
    angle, zoom = np.deg2rad(0.7 * 30), 1 + 0.5 * 0.2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom  # of (row, column)
    offsets = np.stack(np.mgrid[:height, :width], axis=-1) - centre
    places = offsets @ turn.T + centre + np.array([-0.4, 0.9]) * 0.1 * sides
    for c in range(channels):
        reference = map_coordinates(image[..., c].astype(float), np.moveaxis(places, -1, 0), order=1, mode="nearest")
        assert abs(found[..., c] - reference).max() <= 1.01


def test_affine_stays_within_its_amounts():
    # A single bright pixel in the centre stays put under any turn and zoom, and moves by at most the shift.
    image = np.zeros((21, 21, 1), np.uint8)
    image[9:12, 9:12] = 255
    for n in range(30):
        still = apply(image, seed=(1, n), degrees=180.0, shift=0.0, scale=0.3)
        assert still[10, 10, 0] == 255
        shifted = apply(image, seed=(1, n), degrees=0.0, shift=0.2, scale=0.0)
        rows, columns = np.nonzero(shifted[..., 0])
        assert max(abs(rows - 10).max(), abs(columns - 10).max()) <= 1 + np.ceil(0.2 * 21)
