"""What the figures hold: every number in its place, with titles, labels and units."""

import struct

import numpy as np
import pytest

from vit_jax.inspect import Filters, overlay_mask
from vit_jax.inspect.draw_attention import draw_by_depth, draw_heads, draw_rollout
from vit_jax.inspect.draw_filters import draw_filters
from vit_jax.inspect.draw_positions import draw_grid_similarity, draw_offset_similarity, shown_places
from vit_jax.inspect.drawing import mosaic, to_png

RANDOM = np.random.default_rng(0)


def shown(axes):
    """The arrays of the images in an axes."""
    return [np.asarray(image.get_array()) for image in axes.get_images()]


def test_a_mosaic_has_every_tile_in_its_place():
    tiles = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2).astype(np.float32)
    whole = mosaic(tiles, 1)
    assert whole.shape == (5, 8)
    for row in range(2):
        for column in range(3):
            part = whole[3 * row : 3 * row + 2, 3 * column : 3 * column + 2]
            np.testing.assert_array_equal(part, tiles[row, column])
    assert np.isnan(whole[2]).all()
    assert np.isnan(whole[:, [2, 5]]).all()
    assert np.isfinite(whole).sum() == tiles.size


@pytest.mark.parametrize(("count", "rows", "columns"), [(28, 4, 7), (12, 2, 7), (3, 1, 3), (64, 4, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_tiles_and_their_shares_bars(count, rows, columns, channels):
    pictures = RANDOM.random((count, 8, 8, channels)).astype(np.float32)
    explained = np.linspace(0.2, 0.0, count)
    tiles, bars = draw_filters(Filters(pictures, explained, count), "what it is").axes
    assert tiles.get_title() == "what it is"
    (drawn,) = shown(tiles)
    assert drawn.shape[:2] == (9 * rows - 1, 9 * columns - 1)
    last = drawn[9 * rows - 9 :, 9 * ((count - 1) % columns) :][:8, :8]
    expected = pictures[-1] if channels == 3 else pictures[-1, ..., 0]
    np.testing.assert_allclose(last, expected, rtol=1e-6)
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], 100 * explained)
    assert "%" in bars.get_ylabel()


def test_filters_without_shares_have_no_bars():
    assert len(draw_filters(Filters(RANDOM.random((64, 7, 7, 3)), None, 64), "root").axes) == 1


def test_every_head_is_a_dot_at_its_layer():
    values = RANDOM.uniform(5, 100, (3, 4))
    (axes,) = draw_by_depth(values, 60.0, "distance", "pixels").axes
    (dots,) = axes.collections
    expected = [(layer + 1, values[layer, head]) for layer in range(3) for head in range(4)]
    np.testing.assert_allclose(dots.get_offsets(), expected)
    mean, uniform = axes.lines
    np.testing.assert_allclose(mean.get_ydata(), values.mean(axis=1))
    np.testing.assert_allclose(uniform.get_ydata(), 60.0)
    assert (axes.get_title(), axes.get_ylabel()) == ("distance", "pixels")
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > values.max()
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


@pytest.mark.parametrize(
    ("side", "expected"), [(1, [0]), (16, list(range(16))), (24, list(range(1, 24, 2))), (37, list(range(1, 37, 3)))]
)
def test_large_grids_have_every_kth_tile(side, expected):
    assert shown_places(side).tolist() == expected


@pytest.mark.parametrize("grid", [(2, 3), (4, 20), (20, 4), (1, 1)])
def test_each_patch_has_a_tile_of_its_similarities(grid):
    similarity = RANDOM.uniform(-1, 1, (*grid, *grid)).astype(np.float32)
    axes = draw_grid_similarity(similarity, "similarity").axes[0]
    (drawn,) = shown(axes)
    rows, columns = (shown_places(side) for side in grid)
    gap = (drawn.shape[0] + 1) // len(rows) - grid[0] if len(rows) > 1 else 1
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            top, left = i * (grid[0] + gap), j * (grid[1] + gap)
            tile = drawn[top : top + grid[0], left : left + grid[1]]
            np.testing.assert_array_equal(tile, similarity[row, column])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("patch column", "patch row")
    assert axes.get_yticklabels()[0].get_text() == str(rows[0] + 1)
    assert axes.get_images()[0].get_clim() == (-1, 1)


def test_offsets_are_drawn_around_zero():
    similarity = RANDOM.uniform(-1, 1, (9, 9)).astype(np.float32)
    pairs, line, _ = draw_offset_similarity(similarity, "relative").axes
    assert pairs.get_images()[0].get_extent() == [-4.5, 4.5, 4.5, -4.5]
    np.testing.assert_array_equal(line.lines[0].get_xdata(), np.arange(-4, 5))
    np.testing.assert_array_equal(line.lines[0].get_ydata(), similarity[4])


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_stands_beside_itself_behind_its_mask(number, channels):
    images = RANDOM.integers(0, 256, (number, 200, 240, channels), np.uint8)
    rollout = RANDOM.random((number, 5, 6)).astype(np.float32)
    names = [f"{'long ' * 10}{i}" for i in range(number)]
    axes = draw_rollout(images, rollout, 40, names, "rollout").axes
    drawn = [(axis.get_title(), *shown(axis)) for axis in axes if axis.get_images()]
    assert len(drawn) == 2 * number
    for i in range(number):
        (name, image), (_, masked) = drawn[2 * i : 2 * i + 2]
        assert len(name) <= 24
        np.testing.assert_array_equal(image, images[i].squeeze() if channels == 1 else images[i])
        expected = images[i] * overlay_mask(rollout[i], 40, (200, 240))[..., None]
        np.testing.assert_allclose(masked, expected.squeeze() if channels == 1 else expected, atol=0.51)


def test_small_images_are_enlarged_pixel_by_pixel():
    images = RANDOM.integers(0, 256, (1, 8, 8, 3), np.uint8)
    axes = draw_rollout(images, RANDOM.random((1, 4, 4)), 2, ["digit"], "rollout").axes
    np.testing.assert_array_equal(shown(axes[0])[0], images[0].repeat(20, axis=0).repeat(20, axis=1))


@pytest.mark.parametrize(("count", "columns"), [(2, 2), (8, 8), (12, 6), (16, 8), (25, 7)])
def test_every_head_of_every_layer_is_drawn_over_the_image(count, columns):
    image = RANDOM.integers(0, 256, (24, 36, 3), np.uint8)
    heads = RANDOM.random((2, count, 2, 3)).astype(np.float32)
    figure = draw_heads(image, heads, [0, 7], 12, "heads")
    assert figure.axes[0].get_gridspec().ncols == columns
    drawn = [axes for axes in figure.axes if axes.get_images()]
    assert drawn[0].get_title() == "input"
    names = [f"layer {layer}, head {head}" for layer in (1, 8) for head in range(1, count + 1)]
    assert [axes.get_title() for axes in drawn[1:]] == names
    for axes, weights in zip(drawn[1:], heads.reshape(-1, 2, 3), strict=True):
        np.testing.assert_array_equal(shown(axes)[1], weights)
        assert axes.get_images()[1].get_extent() == [0, 36, 24, 0]
        assert axes.get_images()[1].get_clim() == (0, pytest.approx(weights.max()))


def test_the_map_covers_what_the_patches_cover():
    image, heads = np.zeros((11, 14, 3), np.uint8), np.ones((1, 1, 2, 3), np.float32)
    axes = draw_heads(image, heads, [0], 4, "heads").axes[1]
    assert [picture.get_extent() for picture in axes.get_images()] == [[0, 14, 11, 0], [0, 12, 8, 0]]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 14), (11, 0))


def test_the_same_figure_is_the_same_bytes():
    one, two = (to_png(draw_by_depth(np.ones((2, 2)), 1.0, "t", "u")) for _ in range(2))
    assert one == two
    width, height = struct.unpack(">II", one[16:24])
    assert 600 < width < 1200
    assert 300 < height < 800
