"""Many small pictures with their names on one sheet."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vit_jax.inspect.drawing import short_name, show_image

_COLUMNS = 8


def draw_contact_sheet(images: np.ndarray, names: Sequence[str], path: Path, title: str) -> Path:
    """Draws pictures with a name below each into a PNG.

    Args:
      images: uint8 (n, h, w, c), at least one, c 1 or 3.
      names: of the pictures; long ones are shortened.
      path: the PNG to write.
      title: above the sheet.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(len(images) / _COLUMNS)
    shape = images.shape[1] / images.shape[2]
    figure = Figure(figsize=(1.6 * _COLUMNS, (1.6 * shape + 0.2) * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
    axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, image, name in zip(axes, images, names, strict=False):
        show_image(axis, image)
        axis.set_title(short_name(name), fontsize=7, y=-0.16, parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
