"""What the drawings share: how figures become PNGs, and many small pictures in one."""

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches, of no window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="compressed")


def to_png(figure: "Figure") -> bytes:
    """The figure as the bytes of a PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def mosaic(tiles: np.ndarray, gap: int = 1) -> np.ndarray:
    """Tiles side by side in one array, with gaps of NaN between them.

    Args:
      tiles: float (rows, columns, h, w) or (rows, columns, h, w, c).
      gap: in pixels.

    Returns:
      float32 (rows * (h + gap) - gap, columns * (w + gap) - gap[, c]).
    """
    rows, columns, height, width, *channels = tiles.shape
    padding = ((0, 0), (0, 0), (0, gap), (0, gap), *((0, 0) for _ in channels))
    padded = np.pad(np.float32(tiles), padding, constant_values=np.nan).swapaxes(1, 2)
    whole = padded.reshape(rows * (height + gap), columns * (width + gap), *channels)
    return whole[: rows * (height + gap) - gap, : columns * (width + gap) - gap]


def show_image(axes: "Axes", image: np.ndarray) -> None:
    """Draws a uint8 (h, w, c) image, c 1 or 3, with its own levels."""
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)


def short_name(name: str) -> str:
    """The name, or as much of it as fits above a small picture."""
    return name if len(name) <= 24 else f"{name[:23]}…"
