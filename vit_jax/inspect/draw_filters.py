"""Filters as a picture."""

import math
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.inspect.drawing import mosaic, new_figure
from vit_jax.inspect.filters import Filters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_filters(filters: Filters, title: str) -> "Figure":
    """The filters in rows of 7, or of 16 if there are many; for principal components also what each explains."""
    count = len(filters.pictures)
    columns = 7 if count <= 28 else 16
    rows = math.ceil(count / columns)
    columns = min(columns, count)
    height = 7.0 * rows / columns
    if filters.explained is None:
        figure = new_figure(7.4, height + 0.5)
        axes = figure.subplots()
    else:
        figure = new_figure(7.4, height + 2.2)
        axes, shares = figure.subplots(2, 1, height_ratios=(height, 1.6))
        _draw_explained(shares, filters.explained)
    tiles = np.full((rows * columns, *filters.pictures.shape[1:]), np.nan, np.float32)
    tiles[:count] = filters.pictures
    _draw_tiles(axes, tiles.reshape(rows, columns, *tiles.shape[1:]))
    axes.set_title(title, fontsize=11, parse_math=False)
    return figure


def _draw_tiles(axes: "Axes", tiles: np.ndarray) -> None:
    gap = max(1, tiles.shape[2] // 8)
    whole = mosaic(tiles, gap)
    if whole.shape[-1] == 3:
        axes.imshow(np.nan_to_num(whole, nan=1.0), interpolation="nearest")
    else:
        axes.imshow(whole.mean(axis=-1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _draw_explained(axes: "Axes", explained: np.ndarray) -> None:
    axes.bar(np.arange(1, len(explained) + 1), 100 * explained, color="tab:blue")
    axes.set_xlabel("component, in the order of the pictures")
    axes.set_ylabel("variance (%)")
    axes.set_xlim(0.4, len(explained) + 0.6)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
