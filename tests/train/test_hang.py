"""A run that does not get on is noticed, once, and says where it is stuck."""

import pytest

from tests.clock import Time
from vit_jax.train import hang
from vit_jax.train.goodput import CHECKPOINT, EVALUATE, INPUT, OTHER, START, Goodput
from vit_jax.train.hang import HangWatch


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def goodput(time):
    """After three steps of 2 s."""
    account = Goodput(now=time)
    account.turn_to(OTHER)
    for step in (1, 2, 3):
        account.dispatched(step)
        time.passes(2)
        account.finished(step)
    return account


def watch(goodput, tmp_path, timeout=60.0, exits=False):
    return HangWatch(goodput, timeout, tmp_path / "hang", exits)


@pytest.mark.parametrize(
    ("activity", "allowed", "said"),
    [
        (INPUT, 60, "waiting for input for 61 s, after 3 steps"),
        (OTHER, 60, "waiting for the devices for 61 s"),
        (CHECKPOINT, 360, "saving a checkpoint for 361 s"),
        (EVALUATE, 360, "evaluating for 361 s"),
    ],
)
def test_the_place_is_named_when_the_time_allowed_is_over(activity, allowed, said, goodput, time, tmp_path, capsys):
    watching = watch(goodput, tmp_path)
    goodput.turn_to(activity)
    time.passes(allowed - 1)
    watching.look()
    assert not (tmp_path / "hang").exists()
    time.passes(2)
    watching.look()
    text = (tmp_path / "hang" / "process_0.txt").read_text()
    assert f"process 0 hangs: {said}" in text
    assert "test_the_place_is_named_when_the_time_allowed_is_over" in text  # the stack of this very thread
    shown = capsys.readouterr().err
    assert said in shown
    assert "stacks of all threads" in shown
    assert text.partition("\n")[2] in shown


def test_it_is_said_once_and_again_after_the_next_hang(goodput, time, tmp_path, capsys):
    watching = watch(goodput, tmp_path)
    for _ in range(3):
        time.passes(100)
        watching.look()
    goodput.dispatched(4)
    time.passes(5)
    goodput.finished(4)
    watching.look()
    time.passes(100)
    watching.look()
    lines = (tmp_path / "hang" / "process_0.txt").read_text().splitlines()
    assert [line.rpartition(" for ")[2] for line in lines if "hangs" in line] == ["100 s, after 3 steps"] + [
        "100 s, after 4 steps"
    ]


def test_long_steps_may_take_ten_times_their_mean(time, tmp_path):
    goodput = Goodput(now=time)
    goodput.turn_to(OTHER)
    goodput.dispatched(1)
    time.passes(30)
    goodput.finished(1)
    watching = watch(goodput, tmp_path, timeout=60)
    goodput.dispatched(2)
    time.passes(299)
    watching.look()
    assert not (tmp_path / "hang").exists()
    time.passes(2)
    watching.look()
    assert (tmp_path / "hang").exists()


def test_before_the_first_step_the_start_may_take_long(time, tmp_path):
    goodput = Goodput(now=time)
    watching = watch(goodput, tmp_path)
    assert goodput.activity == START
    time.passes(359)
    watching.look()
    assert not (tmp_path / "hang").exists()
    time.passes(2)
    watching.look()
    assert "hangs: starting for 361 s\n" in (tmp_path / "hang" / "process_0.txt").read_text()


def test_the_process_may_end_with_a_status_that_is_restarted(goodput, time, tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(hang.os, "_exit", ended.append)
    time.passes(61)
    watch(goodput, tmp_path, exits=True).look()
    assert ended == [134]


def test_a_thread_looks(tmp_path):
    """On the real clock, with a time allowed that is over at once."""
    goodput = Goodput()
    goodput.turn_to(INPUT)
    written = tmp_path / "hang" / "process_0.txt"
    with watch(goodput, tmp_path, timeout=0.02) as watching:
        for _ in range(1000):
            if written.exists() and written.read_text():
                break
            watching._stop.wait(0.01)
    assert "waiting for input" in written.read_text()


def test_zero_looks_never(goodput, time, tmp_path):
    with watch(goodput, tmp_path, timeout=0):
        time.passes(1e9)
    assert not (tmp_path / "hang").exists()
