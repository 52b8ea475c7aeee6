"""Metric files and the clock."""

import errno
import json
import resource

import pytest
from tensorflow.compat.v1.train import summary_iterator

from vit_jax.train.progress import Clock, Reporter, duration
from vit_jax.train.writers import JsonLines, TensorBoard, make_writers, read_metrics


def test_lines_after_the_resumed_step_are_dropped_and_half_lines_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.1}\n{"step": 2, "loss": 0.2}\n{"step": 3, "loss": 0.3}\n{"step": 4, "lo')
    writer = JsonLines(path, resume_step=2)
    writer.write(3, {"loss": 0.25})
    writer.close()
    assert read_metrics(path) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}, {"step": 3, "loss": 0.25}]


def test_every_line_is_json_even_when_the_loss_is_not_a_number(tmp_path):
    writer = JsonLines(tmp_path / "m.jsonl", 0)
    writer.write(1, {"loss": float("nan"), "norm": float("inf")})
    writer.close()
    line = (tmp_path / "m.jsonl").read_text()
    assert json.loads(line, parse_constant=lambda c: 1 / 0) == {"step": 1, "loss": "nan", "norm": "inf"}


def test_without_tensorboard_there_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr("vit_jax.train.writers.TensorBoard", _not_installed)
    writers, note = make_writers(tmp_path, 0, tensorboard=True)
    assert len(writers) == 1
    assert "no TensorBoard events: no clu here" in note
    writers[0].close()


def test_tensorboard_says_in_the_system_s_words_that_there_is_no_room_and_goes_on_when_there_is(tmp_path):
    writer = TensorBoard(tmp_path)
    writer.write(1, {"loss": 0.5})
    (events,) = tmp_path.iterdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (events.stat().st_size, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            writer.write(2, {"loss": 0.4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    writer.write(3, {"loss": 0.3})
    writer.close()
    assert {event.step for event in summary_iterator(str(events))} == {0, 1, 3}  # 0 is the version


def _not_installed(directory):
    raise ImportError("no clu here")


def test_the_clock_leaves_out_pauses():
    time = iter([10.0, 12.0, 14.0, 100.0, 102.0])
    clock = Clock(batch_size=8, now=lambda: next(time))
    assert clock.images_per_second is None
    for _ in range(3):
        clock.tick()
    clock.pause()
    for _ in range(2):
        clock.tick()
    assert clock.seconds_per_step == 2.0
    assert clock.images_per_second == 4.0


def test_a_progress_line_has_step_loss_accuracy_rate_and_eta(capsys):
    clock = Clock(batch_size=100, now=iter([0.0, 0.5]).__next__)
    clock.tick()
    clock.tick()
    Reporter().metrics(10, 130, {"loss": 0.5, "accuracy": 0.25}, clock)
    line = capsys.readouterr().err.strip()
    assert line == "step  10/130 | loss 0.5000 | accuracy  25.0% | 200 images/s | ETA 1:00"


def test_durations_read_like_clocks():
    assert [duration(s) for s in (0, 59.6, 3600, 3725)] == ["0:00", "1:00", "1:00:00", "1:02:05"]
