"""Masks of attention: against Pillow and SciPy, and on edges."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from vit_jax.inspect import overlay_mask


@pytest.mark.parametrize(("grid", "stride"), [((4, 4), 8), ((3, 7), 16), ((14, 14), 16)])
def test_a_mask_is_resized_blurred_and_stretched_as_for_the_paper(grid, stride):
    weights = np.random.default_rng(0).random(grid).astype(np.float32)
    size = (grid[0] * stride, grid[1] * stride)
    found = overlay_mask(weights, stride, size)
    large = np.asarray(Image.fromarray(weights / weights.max()).resize(size[::-1], Image.Resampling.LANCZOS))
    blurred = ndimage.gaussian_filter(large, stride, mode="mirror", truncate=4.0)
    expected = (blurred - blurred.min()) / (blurred.max() - blurred.min())
    assert (found.shape, found.dtype) == (size, np.float32)
    assert (found.min(), found.max()) == (0.0, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (1, 3)])
def test_the_brightest_place_is_in_the_patch_with_the_attention(row, column):
    weights = np.zeros((3, 6), np.float32)
    weights[row, column] = 0.01
    mask = overlay_mask(weights, 10, (30, 60))
    brightest = np.unravel_index(mask.argmax(), mask.shape)
    assert (brightest[0] // 10, brightest[1] // 10) == (row, column)


@pytest.mark.parametrize("value", [0.25, 0.0])
@pytest.mark.parametrize("grid", [(2, 3), (1, 1)])
def test_a_mask_without_contrast_hides_nothing(value, grid):
    mask = overlay_mask(np.full(grid, value), 8, (8 * grid[0], 8 * grid[1]))
    np.testing.assert_array_equal(mask, 1.0)


def test_pixels_that_no_patch_covers_are_hidden():
    mask = overlay_mask(np.full((2, 3), 0.1), 4, (11, 14))
    np.testing.assert_array_equal(mask[:8, :12], 1.0)
    assert not mask[8:].any()
    assert not mask[:, 12:].any()


def test_patches_that_reach_beyond_the_image_are_cut():
    weights = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    mask = overlay_mask(weights, 8, (15, 17))
    assert mask.shape == (15, 17)
    np.testing.assert_allclose(mask[:, 16], 1.0, rtol=1e-6)
