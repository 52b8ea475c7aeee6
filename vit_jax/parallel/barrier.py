"""A barrier that processes leave at once, with an error, when one of them has failed on its way there."""

import sys
import threading
import time
from typing import Protocol


class Counters(Protocol):
    """The part of JAX's client of the coordination service that is used here."""

    def key_value_increment(self, key: str, increment: int) -> int: ...  # noqa: D102


class SharedFate:
    """A `barrier_sync_fn` for Orbax, whose own lets processes wait 20 minutes for one that could not write.

    Orbax's threads come to their last barrier also when something went wrong, from a `finally` block. That error is
    seen here, and the processes that wait at an earlier barrier are told.

    Args:
      counters: the client of the coordination service.
      name: of this set of barriers in the job.
      processes: how many there are.
    """

    def __init__(self, counters: Counters, name: str, processes: int):
        self._counters, self._name, self._processes = counters, f"vit_jax/barrier/{name}", processes
        self._passed: dict[str, int] = {}
        self._known = 0
        self._error: BaseException | None = None

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Waits until all processes have come to barrier `key`.

        Raises:
          OSError: another process failed.
          TimeoutError: some did not come.
        """
        error = sys.exception() if threading.current_thread() is not threading.main_thread() else None
        if error is not None and error is not self._error:
            self._error = error
            if self._failures() == self._known:
                self._counters.key_value_increment(f"{self._name}/failures", 1)
        self._wait(f"{self._name}/{self._known}/{key}", time.monotonic() + timeout_ms / 1000, error is not None)
        if error is not None:
            self._known = self._failures()  # all have met, so all failures are counted

    def _wait(self, name: str, deadline: float, failed: bool) -> None:
        """Until all processes have counted up `name` as often as this one; one that has not failed may give up."""
        self._passed[name] = self._passed.get(name, 0) + 1
        target, pause = self._passed[name] * self._processes, 0.02
        count = self._counters.key_value_increment(name, 1)
        while count < target:
            if not failed and self._failures() > self._known:
                raise OSError("another process of the job could not write its part")
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {count} of {target} processes came to {name}")
            time.sleep(pause)
            pause = min(1.0, 1.5 * pause)
            count = self._counters.key_value_increment(name, 0)

    def _failures(self) -> int:
        return self._counters.key_value_increment(f"{self._name}/failures", 0)
