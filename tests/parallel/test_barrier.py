"""Barriers of several threads that stand for processes, with failures at every place."""

import concurrent.futures
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.parallel.barrier import SharedFate

from .service import Service

SECONDS = 60_000


class Process:
    """One process that saves like Orbax: two barriers in the middle, and one at the end whatever happens."""

    def __init__(self, service, number, processes):
        self.number = number
        self.barrier = SharedFate(service, "saves", processes)
        self.saved = []

    def save(self, step, failing=None):
        """Raises what went wrong; `failing` is where this process fails."""
        try:
            for place in ("written", "committed"):
                if failing == place:
                    raise ValueError(f"{self.number} failed")
                self.barrier(key=f"{place}.{step}", timeout_ms=SECONDS)
            self.saved.append(step)
        finally:
            self.barrier(key="set", timeout_ms=SECONDS)
            self.barrier(key="end", timeout_ms=SECONDS)

    def try_to_save(self, step, failing):
        try:
            self.save(step, failing)
            return None
        except (OSError, ValueError) as error:
            return error


FAILING = st.sampled_from([None, None, None, "written", "committed"])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(FAILING, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_a_save_succeeds_on_all_or_fails_on_all_and_the_next_one_is_not_disturbed(saves):
    """Whoever did not fail itself is told at the barrier where it waits."""
    service, count = Service(), len(saves[0])
    processes = [Process(service, i, count) for i in range(count)]
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for step, failing in enumerate(saves):
            errors = list(pool.map(Process.try_to_save, processes, [step] * count, failing))
            if not any(failing):
                assert errors == [None] * count
                continue
            assert all(errors)
            kinds = dict(zip(failing, map(type, errors), strict=True))
            assert kinds.get("written", ValueError) is ValueError
            assert kinds.get(None, OSError) is OSError
            assert not any(step in process.saved for process in processes)


def test_a_process_that_does_not_come_is_given_up_in_the_end():
    barrier = SharedFate(Service(), "x", 2)
    with pytest.raises(TimeoutError, match=r"only 1 of 2 processes came to .*/a$"):
        barrier(key="a", timeout_ms=30)


def test_an_error_that_the_main_thread_deals_with_is_not_a_failure():
    service = Service()
    barrier = SharedFate(service, "x", 1)
    assert threading.current_thread() is threading.main_thread()
    try:
        raise ValueError
    except ValueError:
        barrier(key="a", timeout_ms=SECONDS)
    assert not [key for key, value in service.values.items() if key.endswith("failures") and value != "0"]
