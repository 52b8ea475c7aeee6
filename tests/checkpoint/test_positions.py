"""Resampling position embeddings."""

import warnings

import jax
import numpy as np
import pytest
from scipy.ndimage import zoom

from vit_jax.checkpoint.positions import resize_grid, square_grid
from vit_jax.errors import UserError

SIZES = range(1, 65)


def formula(column: np.ndarray, new: int) -> np.ndarray:
    """Linear interpolation along the first axis at i * (old - 1) / (new - 1), in exact fractions."""
    old = len(column)
    rows = []
    for i in range(new):
        below, rest = divmod(i * (old - 1), new - 1) if new > 1 else (0, 0)
        share = rest / (new - 1) if rest else 0.0
        rows.append(column[below] if not rest else (1 - share) * column[below] + share * column[below + 1])
    return np.array(rows)


def test_bilinear_is_the_formula_for_every_size() -> None:
    rng = np.random.default_rng(0)
    for old in SIZES:
        table = rng.normal(size=(old, 2)).astype(np.float32)
        for new in SIZES:
            wanted = formula(table.astype(np.float64), new)
            for shape in ((old, 1), (new, 1)), ((1, old), (1, new)):
                found = resize_grid(table, *shape)
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, wanted, rtol=2e-7, atol=1e-7, err_msg=f"{old} -> {new}")


def test_bilinear_is_scipy_without_its_rounded_borders() -> None:
    rng = np.random.default_rng(1)
    for old in SIZES:
        table = rng.normal(size=(old * old, 2)).astype(np.float32)
        grid = table.reshape(old, old, 2)
        for new in (old // 2 or 1, *rng.integers(1, 65, size=6)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scipy notes that it once rounded sizes in another way
                factors = (new / old, new / old, 1)
                wanted = zoom(grid.astype(np.float64), factors, order=1, mode="nearest", grid_mode=False)
            found = resize_grid(table, (old, old), (int(new), int(new))).reshape(new, new, 2)
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6, err_msg=f"{old} -> {new}")


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_no_border_is_lost(method: str) -> None:
    for old in SIZES:
        table = np.ones((old, 1), np.float32)
        for new in SIZES:
            np.testing.assert_allclose(resize_grid(table, (old, 1), (new, 1), method), 1, rtol=1e-6)


def test_corners_stay() -> None:
    table = np.random.default_rng(2).normal(size=(28 * 28, 3)).astype(np.float32)
    old, new = table.reshape(28, 28, 3), resize_grid(table, (28, 28), (48, 48)).reshape(48, 48, 3)
    np.testing.assert_array_equal(new[::47, ::47], old[::27, ::27])


def test_grids_that_are_not_square() -> None:
    """A plane is reproduced exactly by linear interpolation, whatever the grid."""
    rows, columns = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 8), indexing="ij")
    table = np.stack([rows, columns, rows + 2 * columns], -1).reshape(40, 3).astype(np.float32)
    rows, columns = np.meshgrid(np.linspace(0, 1, 11), np.linspace(0, 1, 3), indexing="ij")
    wanted = np.stack([rows, columns, rows + 2 * columns], -1).reshape(33, 3)
    np.testing.assert_allclose(resize_grid(table, (5, 8), (11, 3)), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"), [((14, 14), (24, 24)), ((7, 5), (12, 5)), ((16, 16), (7, 9)), ((1, 3), (2, 1))]
)
def test_bicubic_is_that_of_jax(old: tuple[int, int], new: tuple[int, int]) -> None:
    """`jax.image` has the same kernel, areas and antialiasing; it computes in float32."""
    table = np.random.default_rng(3).normal(size=(old[0] * old[1], 4)).astype(np.float32)
    wanted = jax.image.resize(table.reshape(*old, 4), (*new, 4), "cubic", precision="highest").reshape(-1, 4)
    np.testing.assert_allclose(resize_grid(table, old, new, "bicubic"), wanted, rtol=1e-4, atol=1e-5)


# torch 2.13.0: t = arange(12.).reshape(4, 3) ** 2
# torch.nn.functional.interpolate(t[None, None], size=..., mode="bicubic", antialias=True), as timm 1.0.31 calls it.
TORCH = {
    (3, 2): [[1.2622, 5.59614], [24.25041, 39.435], [76.87608, 102.91133]],
    (4, 7): [
        [-0.09615, 0.06925, 0.36011, 1.0, 2.38781, 3.72576, 4.28846],
        [8.32692, 9.58449, 12.31856, 16.0, 20.42936, 24.21053, 25.86538],
        [34.75, 37.09972, 42.27701, 49.0, 56.47092, 62.6953, 65.4423],
        [79.17308, 82.61496, 90.23546, 100.0, 110.51247, 119.18006, 123.01923],
    ],
}


@pytest.mark.parametrize("new", TORCH)
def test_bicubic_is_that_of_timm(new: tuple[int, int]) -> None:
    table = (np.arange(12, dtype=np.float32) ** 2)[:, None]
    np.testing.assert_allclose(resize_grid(table, (4, 3), new, "bicubic").reshape(new), TORCH[new], atol=3e-5)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_the_same_size_changes_no_bit(method: str) -> None:
    table = np.random.default_rng(4).normal(size=(12, 3)).astype(np.float32)
    table[0] = -0.0
    assert resize_grid(table, (3, 4), (3, 4), method).tobytes() == table.tobytes()


@pytest.mark.parametrize(
    ("rows", "old", "new", "method", "says"),
    [
        (12, (3, 3), (4, 4), "bilinear", r"shape \(12, 1\) do not belong to a 3x3 grid"),
        (0, (0, 3), (4, 4), "bilinear", "0x3 grid for 4x4"),
        (12, (3, 4), (0, 4), "bilinear", "3x4 grid for 0x4"),
        (12, (3, 4), (4, 4), "lanczos", "method = 'lanczos': must be one of bilinear, bicubic"),
    ],
)
def test_what_cannot_be_resized(rows: int, old: tuple, new: tuple, method: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        resize_grid(np.zeros((rows, 1), np.float32), old, new, method)


def test_squares() -> None:
    squares = {side * side: (side, side) for side in range(1, 40)}
    for tokens in range(-1, 1522):
        if tokens in squares:
            assert square_grid(tokens) == squares[tokens]
        else:
            with pytest.raises(UserError, match=f"{tokens} position embeddings do not fill a square grid"):
                square_grid(tokens)
