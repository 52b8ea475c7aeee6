"""The account of wall time, with a clock of our own: exact to the second."""

import contextlib
import json
import threading

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import Time
from vit_jax.train.goodput import (
    CHECKPOINT,
    COMPILE,
    DOWN,
    EVALUATE,
    INPUT,
    LOST,
    OTHER,
    PARTS,
    START,
    STEP,
    Goodput,
    GoodputLog,
    StepWatch,
    carried,
)


@pytest.fixture
def time():
    return Time()


def spent(goodput):
    return {part: seconds for part, seconds in goodput.seconds().items() if seconds}


def test_the_parts_of_a_run(time):
    """Start 10 (4 of it compiling), step 1 of 5 s, 2 s input, step 2 of 5 s, then a save of 3 s, a test of 7 s."""
    goodput = Goodput(began=100.0, now=time)
    time.passes(8)
    goodput.compiled(4)
    time.passes(2)
    goodput.turn_to(OTHER)
    for step in (1, 2):
        if step == 2:
            with goodput.during(INPUT):
                time.passes(2)
        goodput.dispatched(step)
        time.passes(5)
        goodput.finished(step)
    with goodput.during(CHECKPOINT):
        time.passes(3)
    with goodput.during(EVALUATE):
        time.passes(7)
    time.passes(1)
    assert spent(goodput) == {START: 6, COMPILE: 4, STEP: 10, INPUT: 2, CHECKPOINT: 3, EVALUATE: 7, OTHER: 1}
    assert goodput.steps == 2
    assert goodput.seconds_per_step == 5


def test_input_that_comes_while_the_devices_compute_costs_nothing(time):
    goodput = Goodput(now=time)
    goodput.turn_to(OTHER)
    goodput.dispatched(1)
    with goodput.during(INPUT):
        time.passes(4)
        goodput.finished(1)  # 4 s of work, 6 s of waiting for input: 2 s too many
        time.passes(2)
    goodput.dispatched(2)
    time.passes(4)
    goodput.finished(2)
    assert spent(goodput) == {STEP: 8, INPUT: 2}


def test_steps_in_flight_follow_each_other(time):
    """Three are dispatched at once and take 2 s each, while the main thread saves for 5 s."""
    goodput = Goodput(now=time)
    goodput.turn_to(OTHER)
    for step in (1, 2, 3):
        goodput.dispatched(step)
    goodput.turn_to(CHECKPOINT)
    for step in (1, 2):
        time.passes(2)
        goodput.finished(step)
    time.passes(1)
    assert spent(goodput) == {STEP: 5}  # step 3 is under way
    goodput.turn_to(OTHER)
    time.passes(1)
    goodput.finished(3)
    time.passes(1)
    assert spent(goodput) == {STEP: 6, OTHER: 1}


def test_compiling_is_taken_from_what_it_interrupts(time):
    goodput = Goodput(now=time)
    time.passes(1)
    with goodput.during(EVALUATE):
        time.passes(5)
        goodput.compiled(4)
        time.passes(2)
        goodput.compiled(2)
        time.passes(1)
    assert spent(goodput) == {START: 1, EVALUATE: 2, COMPILE: 6}


def test_nested_activities_return_to_the_outer_one(time):
    goodput = Goodput(now=time)
    with goodput.during(EVALUATE):
        time.passes(1)
        with contextlib.suppress(ValueError), goodput.during(INPUT):
            time.passes(2)
            raise ValueError
        assert goodput.activity == EVALUATE
        time.passes(3)
    assert spent(goodput) == {EVALUATE: 4, INPUT: 2}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([*PARTS[1:7], "dispatch", "finish", "compiled"]),
        st.integers(0, 20),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_the_parts_add_up_to_the_wall_time(events):
    """And `step` is the time in which a step is under way, counted second by second."""
    time, busy, waiting = Time(), 0, []
    goodput = Goodput(now=time)
    for number, (event, seconds) in enumerate(events):
        time.passes(seconds)
        busy += seconds if waiting else 0
        if event == "dispatch":
            goodput.dispatched(number)
            waiting.append(number)
        elif event == "finish":
            if waiting:
                goodput.finished(waiting.pop(0))
        elif event == "compiled":
            goodput.compiled(seconds)
        else:
            goodput.turn_to(event)
        found = goodput.seconds()
        assert sum(found.values()) == time.now - 100
        assert found[STEP] == busy
        assert min(found.values()) >= 0


def test_a_record_of_nothing_begins_at_zero():
    assert carried([], 0, 5.0) == dict.fromkeys(PARTS, 0.0)


def line(step, useful, time, done=False, **parts):
    return {"time": time, "step": step, "done": done, "seconds": {**dict.fromkeys(PARTS, 0.0), STEP: useful, **parts}}


def test_steps_done_again_and_the_time_until_the_restart_are_lost():
    """Saved after step 10; killed after step 14, whose record says 1400 s; started again 60 s later from step 10."""
    lines = [line(5, 50, 1100), line(10, 100, 1200, start=9), line(14, 140, 1400, start=9)]
    found = carried(lines, 10, began=1460.0)
    assert {part: value for part, value in found.items() if value} == {STEP: 100, LOST: 40, DOWN: 60, START: 9}


def test_a_run_that_stopped_in_good_order_has_lost_no_steps():
    assert carried([line(10, 100, 1200)], 10, 1260.0)[LOST] == 0


def test_a_second_crash_loses_only_what_came_after_the_first_restart():
    """14, back to 10, on to 12, back to 10."""
    first = [line(10, 100, 1200), line(14, 140, 1400)]
    again = carried(first, 10, 1400.0)
    second = [*first, line(12, again[STEP] + 20, 1500, **{LOST: again[LOST]})]
    found = carried(second, 10, 1500.0)
    assert (found[STEP], found[LOST]) == (100, 60)


def test_going_back_beyond_all_saves_loses_everything():
    found = carried([line(10, 100, 1200)], 0, 1200.0)
    assert (found[STEP], found[LOST]) == (0, 100)


def test_the_time_after_the_end_of_a_run_does_not_count():
    assert carried([line(10, 100, 1200, done=True)], 10, 99999.0)[DOWN] == 0


def test_attempts_add_up_in_the_file(tmp_path, time):
    """A crash 3 s after the last record: those are part of the time until the restart."""
    path = tmp_path / "goodput.jsonl"
    first = Goodput(now=time)
    log = GoodputLog(path, first, 0)
    first.dispatched(1)
    time.passes(6)
    first.finished(1)
    log.write(1)
    first.dispatched(2)
    time.passes(2)
    first.finished(2)
    log.write(2)
    log.close()
    with open(path, "a") as file:
        file.write('{"time": 1')  # killed while writing
    time.passes(3)
    second = Goodput(began=time.now + 1, now=time)
    time.passes(1)
    time.passes(4)
    log = GoodputLog(path, second, 1)
    totals = log.totals()
    assert {part: seconds for part, seconds in totals.items() if seconds} == {STEP: 6, LOST: 2, DOWN: 4, START: 4}
    assert log.shares()["goodput"] == 6 / 16
    assert log.describe() == "goodput 37.5% of 0:16 in steps; start 25.0%, down 25.0%, lost 12.5%"
    log.write(1, done=True)
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["step"], each["done"]) for each in lines] == [(1, False), (2, False), (1, True)]
    assert lines[-1]["seconds"] == totals


def test_without_a_file_only_this_attempt_counts(time):
    log = GoodputLog(None, Goodput(now=time), 7)
    time.passes(2)
    log.write(7)
    assert log.totals()[START] == 2


class Step:
    """The outputs of a step that finishes when told."""

    def __init__(self):
        self.done = threading.Event()

    def block_until_ready(self):
        self.done.wait()
        return self


def test_steps_are_seen_to_finish_in_their_order_without_being_asked():
    goodput, seen = Goodput(), threading.Semaphore(0)
    watch = StepWatch(goodput)
    finished = goodput.finished
    goodput.finished = lambda step: (finished(step), order.append(step), seen.release())
    order, steps = [], [Step(), Step()]
    for number, step in enumerate(steps):
        goodput.dispatched(number)
        watch.add(number, step)
    assert not seen.acquire(timeout=0.05)
    steps[1].done.set()
    assert not seen.acquire(timeout=0.05)
    steps[0].done.set()
    watch.close()
    assert order == [0, 1]
    assert goodput.steps == 2


def test_a_step_that_fails_ends_the_watching_and_nothing_else():
    class Failing:
        def block_until_ready(self):
            raise jax.errors.JaxRuntimeError("a collective failed")

    goodput = Goodput()
    watch = StepWatch(goodput)
    goodput.dispatched(1)
    watch.add(1, Failing())
    watch.close()
    assert goodput.steps == 0
