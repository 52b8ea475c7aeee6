"""Names beside the points of a picture, where there is room for them."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox

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


@dataclasses.dataclass(frozen=True)
class Label:
    """A name at (x, y) in the units of the data."""

    x: float
    y: float
    name: str
    color: str


def place_labels(axes: "Axes", labels: Sequence[Label], markers: Sequence[tuple[float, float]] = ()) -> None:
    """Writes each name beside its point: off lines if possible, off markers, other names and the legend in any case.

    A name that finds no room is left out. Call it last: nothing may move afterwards.

    Args:
      axes: with lines and legend drawn.
      labels: earlier ones choose first.
      markers: (x, y) of points without a name.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()  # the layout is final from here on
    reach = _DOT * figure.dpi / 72
    points = [(label.x, label.y) for label in labels]
    taken = [_around(place, reach) for place in axes.transData.transform([*points, *markers])]
    legend = axes.get_legend()
    if legend:
        taken.append(legend.get_window_extent())
    lines = [_around(place, 1.0) for line in axes.get_lines() for place in _along(axes, line)]
    for label in labels:
        _place(axes, label, taken, lines)


def _place(axes: "Axes", label: Label, taken: "list[Bbox]", lines: "list[Bbox]") -> None:
    from matplotlib.patheffects import withStroke

    figure: Any = axes.figure
    text = axes.annotate(label.name, (label.x, label.y), (0, 0), textcoords="offset points", fontsize=7, zorder=5)
    text.set(color=label.color, in_layout=False, path_effects=[withStroke(linewidth=2, foreground="white")])
    above = axes.bbox.y1 + _DOT * figure.dpi / 72
    for obstacles, (right, up, across, along) in itertools.product(([*taken, *lines], taken), _PLACES):
        text.set(position=(right, up), ha=across, va=along)
        box = text.get_window_extent(figure.canvas.get_renderer())
        inside = axes.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and axes.bbox.y0 <= box.y0 and box.y1 <= above
        if inside and not any(box.overlaps(other) for other in obstacles):
            taken.append(box)
            return
    text.set_visible(False)


def _along(axes: "Axes", line: "Line2D") -> np.ndarray:
    """(k, 2) places on the canvas, close together along a line."""
    corners = axes.transData.transform(np.asarray(line.get_xydata()))
    pairs = itertools.pairwise(corners)
    return np.concatenate([corners, *(np.linspace(a, b, int(np.abs(b - a).max() // 4)) for a, b in pairs)])


def _around(place: np.ndarray, reach: float) -> "Bbox":
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(*(place - reach), *(place + reach))
