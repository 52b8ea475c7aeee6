"""Position similarity as pictures."""

from typing import TYPE_CHECKING

import numpy as np

from vit_jax.inspect.drawing import mosaic, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TILES = 16  # a side: more could not be told apart
_LABELS = 8


def shown_places(side: int) -> np.ndarray:
    """Which rows, or columns, of the grid get tiles: all, or every k-th so that there are at most 16."""
    step = -(-side // MOST_TILES)
    return np.arange(step // 2 if step > 1 else 0, side, step)


def draw_grid_similarity(similarity: np.ndarray, title: str) -> "Figure":
    """A tile for each patch: how similar its embedding is to those of all patches (paper, figure 7 centre).

    Args:
      similarity: (h, w, h, w) cosines.
      title: above the picture.
    """
    rows, columns = (shown_places(side) for side in similarity.shape[:2])
    tiles = similarity[np.ix_(rows, columns)]
    shape = len(rows) * tiles.shape[2] / (len(columns) * tiles.shape[3])
    width = min(5.6, 9.0 / shape)
    figure = new_figure(max(6.0, width + 1.8), max(2.6, width * shape + 0.9))
    axes = figure.subplots()
    gap = max(1, round(0.12 * min(tiles.shape[2:])))
    drawn = axes.imshow(mosaic(tiles, gap), vmin=-1, vmax=1, cmap="viridis", interpolation="nearest")
    _label(axes, "x", columns, tiles.shape[3] + gap, tiles.shape[3])
    _label(axes, "y", rows, tiles.shape[2] + gap, tiles.shape[2])
    axes.set(xlabel="patch column", ylabel="patch row")
    axes.set_title(title, fontsize=11, parse_math=False)
    figure.colorbar(drawn, ax=axes, label="cosine similarity", fraction=0.05)
    return figure


def _label(axes: "Axes", which: str, places: np.ndarray, pitch: int, size: int) -> None:
    """Numbers, from 1, at the middle of some tiles."""
    chosen = np.arange(0, len(places), -(-len(places) // _LABELS))
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(chosen * pitch + (size - 1) / 2, [str(places[i] + 1) for i in chosen])
    axis.set_tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_offset_similarity(similarity: np.ndarray, title: str) -> "Figure":
    """Relative embeddings: the similarity of all pairs of offsets, and of each offset with no offset.

    Args:
      similarity: (2n - 1, 2n - 1) cosines; the middle is offset 0.
      title: above the picture.
    """
    most = len(similarity) // 2
    figure = new_figure(7.2, 7.6)
    figure.suptitle(title, fontsize=11, parse_math=False)
    pairs, middle = figure.subplots(2, 1, height_ratios=(3, 1))
    edge = most + 0.5
    drawn = pairs.imshow(similarity, vmin=-1, vmax=1, cmap="viridis", extent=(-edge, edge, edge, -edge))
    pairs.set(xlabel="offset of query - key, in tokens", ylabel="offset")
    figure.colorbar(drawn, ax=pairs, label="cosine similarity", shrink=0.85)
    middle.plot(np.arange(-most, most + 1), similarity[most], linewidth=1)
    middle.set(xlabel="offset", ylabel="similarity\nwith offset 0", xlim=(-edge, edge))
    middle.grid(alpha=0.3)
    return figure
