"""Position embeddings for another image size: learned tables resampled as pictures."""

import math

import numpy as np

from vit_jax.errors import BadSetting, UserError


def square_grid(tokens: int) -> tuple[int, int]:
    """(side, side) of the square that `tokens` patches fill.

    Raises:
      UserError: they fill none.
    """
    side = math.isqrt(max(tokens, 0))
    if side == 0 or side * side != tokens:
        raise UserError(f"{tokens} position embeddings do not fill a square grid: state the grid's height and width")
    return side, side


def resize_grid(table: np.ndarray, old: tuple[int, int], new: tuple[int, int], method: str = "bilinear") -> np.ndarray:
    """Resamples the position embeddings of one grid of patches for another.

    Height and width are resampled one after the other in float64. Two conventions:

    - `"bilinear"` aligns corners: new row i samples the old rows at i * (old - 1) / (new - 1), so the first and last
      stay. A single new row is the first old one. These are the coordinates of `scipy.ndimage.zoom(order=1)`, with
      which google-research/vision_transformer fine-tunes; its borders, which are zero for some sizes (28 to 48
      among them) because the last coordinate is rounded past the edge, are not copied.
    - `"bicubic"` aligns pixel areas, has Keys' kernel with a = -0.5, and is widened when shrinking (antialiased):
      what timm's `resample_abs_pos_embed` does by default through PyTorch, whose a = -0.75 is for `antialias=False`.

    Args:
      table: (h*w, d) real numbers, row-major over the grid, without the class token.
      old: (height, width) of the grid in patches.
      new: the wanted (height, width) in patches.
      method: `"bilinear"` or `"bicubic"`.

    Returns:
      (new h * new w, d) float32; for the same size, the same values.

    Raises:
      UserError: the table does not belong to `old`, a grid is empty, or the method is unknown.
    """
    if method not in _WEIGHTS:
        raise BadSetting("method", method, f"must be one of {', '.join(_WEIGHTS)}")
    if min(*old, *new) < 1:
        raise UserError(f"position embeddings of a {old[0]}x{old[1]} grid for {new[0]}x{new[1]}: a grid needs patches")
    if table.ndim != 2 or len(table) != old[0] * old[1]:
        raise UserError(f"position embeddings of shape {table.shape} do not belong to a {old[0]}x{old[1]} grid")
    if tuple(old) == tuple(new):
        return table.astype(np.float32, copy=False)
    rows, columns = (_WEIGHTS[method](*sizes) for sizes in zip(old, new, strict=True))
    grid = table.astype(np.float64).reshape(*old, -1)
    resized = np.einsum("Hh,hwd->Hwd", rows, grid)
    resized = np.einsum("Ww,Hwd->HWd", columns, resized)
    return resized.reshape(new[0] * new[1], -1).astype(np.float32)


def _bilinear(old: int, new: int) -> np.ndarray:
    """(new, old) weights: row i holds the shares of the old samples in new sample i."""
    centers = np.arange(new) * ((old - 1) / (new - 1)) if new > 1 else np.zeros(1)
    return np.maximum(0, 1 - np.abs(centers[:, None] - np.arange(old)))


def _bicubic(old: int, new: int) -> np.ndarray:
    """As `_bilinear`; what falls outside the grid is left out and the rest made to add up to one."""
    scale = old / new
    centers = (np.arange(new) + 0.5) * scale - 0.5
    distances = np.abs(centers[:, None] - np.arange(old)) / max(scale, 1)
    weights = _cubic(distances)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Cubic convolution, R. Keys 1981, of distances in samples."""
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))


_WEIGHTS = {"bilinear": _bilinear, "bicubic": _bicubic}
