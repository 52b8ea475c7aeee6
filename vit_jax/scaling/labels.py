"""Names beside the points of a picture, where there is room for them."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_DOT = 3.0  # half of a marker, in typographic points
# Where a name may stand, best first: (right, up) from its point in typographic points, and the text's alignment.
_PLACES = (
    (6, 0, "left", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (-6, 0, "right", "center"),
    (5, 5, "left", "bottom"),
    (5, -5, "left", "top"),
    (-5, 5, "right", "bottom"),
    (-5, -5, "right", "top"),
)

# The share of a text that lies left of or below the place it is aligned at.
_SHARE = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}


@dataclasses.dataclass(frozen=True)
class Label:
    """A name at (x, y) in the units of the data."""

    x: float
    y: float
    name: str
    color: str


def place_labels(axes: "Axes", labels: Sequence[Label], markers: Sequence[tuple[float, float]] = ()) -> None:
    """Writes each name beside its point: off lines if possible, off markers and other names in any case.

    A name that finds no room is left out. Call it last: nothing may move afterwards.

    Args:
      axes: with its lines.
      labels: earlier ones choose first.
      markers: (x, y) of points without a name.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()  # the layout is final from here on
    points = np.array([*((label.x, label.y) for label in labels), *markers], float).reshape(-1, 2)
    taken = _around(axes.transData.transform(points), _DOT * figure.dpi / 72)
    lines = np.concatenate([np.empty((0, 4)), *(_around(_along(axes, line), 1.0) for line in axes.get_lines())])
    for label in labels:
        taken = np.vstack([taken, *_place(axes, label, taken, lines)])


def _place(axes: "Axes", label: Label, taken: np.ndarray, lines: np.ndarray) -> list[np.ndarray]:
    """Writes one name; gives what it covers, nothing if it found no room."""
    from matplotlib.patheffects import withStroke

    figure: Any = axes.figure
    text = axes.annotate(label.name, (label.x, label.y), (0, 0), textcoords="offset points", fontsize=7, zorder=5)
    text.set(color=label.color, in_layout=False, path_effects=[withStroke(linewidth=2, foreground="white")])
    size = np.array(text.get_window_extent(figure.canvas.get_renderer()).size)
    point, scale = axes.transData.transform((label.x, label.y)), figure.dpi / 72
    right_end, top = np.array(axes.bbox.max) + _DOT * scale
    for obstacles, (right, up, across, along) in itertools.product((np.vstack([taken, lines]), taken), _PLACES):
        corner = point + np.array([right, up]) * scale - size * (_SHARE[across], _SHARE[along])
        (x0, y0), (x1, y1) = corner, corner + size
        inside = axes.bbox.x0 <= x0 and x1 <= right_end and axes.bbox.y0 <= y0 and y1 <= top
        apart = (obstacles[:, :2] > (x1, y1)) | (obstacles[:, 2:] < (x0, y0))
        if inside and apart.any(axis=1).all():
            text.set(position=(right, up), ha=across, va=along)
            return [np.array([x0, y0, x1, y1])]
    text.set_visible(False)
    return []


def _along(axes: "Axes", line: "Line2D") -> np.ndarray:
    """(k, 2) places on the canvas, close together along a line."""
    corners = axes.transData.transform(np.asarray(line.get_xydata()))
    pairs = itertools.pairwise(corners)
    return np.concatenate([corners, *(np.linspace(a, b, int(np.abs(b - a).max() // 4)) for a, b in pairs)])


def _around(places: np.ndarray, reach: float) -> np.ndarray:
    """(k, 4) left, bottom, right, top of squares around (k, 2) places."""
    return np.hstack([places - reach, places + reach])
