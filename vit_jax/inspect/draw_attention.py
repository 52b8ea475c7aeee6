"""Attention as pictures: heads by depth, rollout, and maps of single heads."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.inspect.drawing import new_figure, short_name, show_image
from vit_jax.inspect.overlay import overlay_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SMALLEST = 160  # pixels a side that small images are enlarged to, so that overlays are smooth
_HEADS_A_ROW = 8


def draw_by_depth(values: np.ndarray, uniform: float, title: str, unit: str) -> "Figure":
    """One dot for each head of each layer, the mean of each layer, and a line at what uniform attention would give.

    Args:
      values: (layers, heads).
      uniform: value of uniform attention.
      title: above the picture.
      unit: on the vertical axis.
    """
    from matplotlib.ticker import MaxNLocator

    layers, heads = values.shape
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    depth = np.arange(1, layers + 1)
    axes.scatter(depth.repeat(heads), values.ravel(), s=22, alpha=0.55, color="tab:blue", linewidths=0, label="a head")
    axes.plot(depth, values.mean(axis=1), color="black", linewidth=1.2, label="mean of the layer")
    axes.axhline(uniform, color="tab:red", linestyle="--", linewidth=1, label="uniform attention")
    axes.set(xlabel="layer (1 is the first)", ylabel=unit, xlim=(0.5, layers + 0.5))
    axes.set_ylim(bottom=0, top=1.08 * max(float(values.max()), uniform, 1e-6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="lower right")
    return figure


def draw_rollout(images: np.ndarray, rollout: np.ndarray, stride: int, names: Sequence[str], title: str) -> "Figure":
    """Pairs of an image and the same image behind the mask of its attention (paper, figures 6 and 14).

    Args:
      images: uint8 (n, h, w, c).
      rollout: (n, rows, columns) of the patches.
      stride: pixels from one patch to the next.
      names: of the images.
      title: above the picture.
    """
    pairs = 1 if len(images) == 1 else 2
    rows = math.ceil(len(images) / pairs)
    shape = images.shape[1] / images.shape[2]
    figure = new_figure(3.6 * pairs, (1.75 * shape + 0.3) * rows + 0.5)
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(rows, 2 * pairs, squeeze=False).reshape(-1, 2)
    for pair in axes.flat:
        pair.set_axis_off()
    for (left, right), image, weights, name in zip(axes, images, rollout, names, strict=False):
        large, step = _enlarged(image, stride)
        mask = overlay_mask(weights, step, large.shape[:2])
        show_image(left, large)
        show_image(right, (large * mask[..., None] + 0.5).astype(np.uint8))
        left.set_title(short_name(name), fontsize=8, parse_math=False)
        right.set_title("attention", fontsize=8)
    return figure


def draw_heads(image: np.ndarray, heads: np.ndarray, layers: Sequence[int], stride: int, title: str) -> "Figure":
    """The image, and for each layer a row (or several) of what its heads attend to, each from 0 to its own maximum.

    Args:
      image: uint8 (h, w, c).
      heads: (layers, heads, rows, columns): weights of those layers only.
      layers: their numbers, counted from 0.
      stride: pixels from one patch to the next.
      title: above the picture.
    """
    count = heads.shape[1]
    rows_each = math.ceil(count / _HEADS_A_ROW)
    columns = math.ceil(count / rows_each)
    shape = image.shape[0] / image.shape[1]
    rows = 1 + len(layers) * rows_each
    figure = new_figure(max(3.6, 1.15 * columns + 0.3), (1.1 * shape + 0.22) * rows + 0.5)
    figure.suptitle(title, fontsize=11, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    show_image(grid[0, 0], image)
    grid[0, 0].set_title("input", fontsize=8)
    for i, layer in enumerate(layers):
        block = grid[1 + i * rows_each : 1 + (i + 1) * rows_each].reshape(-1)
        for head in range(count):
            _draw_head(block[head], image, heads[i, head], stride)
            block[head].set_title(f"layer {layer + 1}, head {head + 1}", fontsize=7)
    return figure


def _draw_head(axes: "Axes", image: np.ndarray, weights: np.ndarray, stride: int) -> None:
    height, width = image.shape[:2]
    gray = image.mean(axis=-1)
    axes.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    rows, columns = weights.shape
    top = max(float(weights.max()), 1e-30)
    covered = (0, columns * stride, rows * stride, 0)
    axes.imshow(weights, cmap="inferno", vmin=0, vmax=top, alpha=0.65, extent=covered, interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0))


def _enlarged(image: np.ndarray, stride: int) -> tuple[np.ndarray, int]:
    """A small image with every pixel repeated, and the stride that goes with it."""
    times = max(1, _SMALLEST // min(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1), stride * times
