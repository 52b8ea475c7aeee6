"""Contact sheets: every picture is on the sheet, in its colours."""

import numpy as np
import pytest
from matplotlib import image as pictures

from vit_jax.inspect import draw_contact_sheet


def area(sheet, colour):
    """Pixels of a sheet with this colour."""
    return np.count_nonzero((np.abs(sheet[..., :3] * 255 - np.array(colour)) < 3).all(axis=-1))


@pytest.mark.parametrize("number", [1, 8, 11])
def test_every_picture_is_drawn_once_and_at_one_size(number, tmp_path):
    colours = [(20 * i, 255 - 20 * i, 100) for i in range(number)]
    images = np.array(colours, np.uint8)[:, None, None].repeat(12, 1).repeat(16, 2)
    path = draw_contact_sheet(images, ["$x_1 50% größer"] * number, tmp_path / "new" / "sheet.png", "a|b(2) $ [train]")
    sheet = pictures.imread(path)
    areas = [area(sheet, colour) for colour in colours]
    assert min(areas) > 5000
    assert max(areas) < min(areas) * 1.1
    assert area(sheet, (20 * number, 255 - 20 * number, 100)) == 0


def test_gray_pictures_keep_their_levels(tmp_path):
    images = np.array([60, 200], np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2)
    sheet = pictures.imread(draw_contact_sheet(images, ["dark", "x" * 200], tmp_path / "gray.png", "levels"))
    assert area(sheet, (60, 60, 60)) > 5000
    assert area(sheet, (200, 200, 200)) > 5000
