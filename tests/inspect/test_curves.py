"""The learning curve as a picture."""

import struct

import pytest

from vit_jax.errors import UserError
from vit_jax.inspect import draw_learning_curve

TRAIN = [{"step": s, "loss": 2.0 / s, "accuracy": 0.1 * s, "learning_rate": 1e-3} for s in (1, 2, 3)]
TEST = [{"step": 3, "eval/loss": 0.8, "eval/accuracy": 0.5, "eval/examples": 10.0}]


@pytest.mark.parametrize("records", [TRAIN[:1], TRAIN, TRAIN + TEST])
def test_a_wide_png_is_written(tmp_path, records):
    path = draw_learning_curve(records, tmp_path / "new" / "curve.png", "mu/4 on digits")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert 1000 < width < 2000
    assert 300 < height < 600


def test_what_is_drawn_depends_on_the_records(tmp_path):
    drawn = [draw_learning_curve(r, tmp_path / "curve.png", "").read_bytes() for r in (TRAIN, TRAIN + TEST)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("records", [[], TEST])
def test_without_training_records_there_is_nothing_to_draw(tmp_path, records):
    with pytest.raises(UserError, match="has not logged any step"):
        draw_learning_curve(records, tmp_path / "curve.png", "")
    assert not (tmp_path / "curve.png").exists()
