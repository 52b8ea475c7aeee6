"""When one process of a job fails, all end, at once and with its exit status, and each says what happened.

Processes leave notes with JAX's coordination service, which runs in process 0; a thread of each waits for them. A
process that is killed leaves none. On CPU and GPU the next collective of the others fails; else JAX misses its
heartbeat after a while and ends them, with many words. That is announced in one line beforehand.
"""

import dataclasses
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import jax

from vit_jax.errors import EXIT_ABORTED

_FAILED, _LATE, _BEATS, _ENDED = "vit_jax/failed", "vit_jax/late/", "vit_jax/beats/", "vit_jax/ended/"
_REST = "at rest"
BEATS = 15  # in the time after which a silent process is given up
LEAVE_SECONDS = 5.0  # that process 0, and with it the notes, stays for the others to read why

# What a collective or the service says when a process is gone, on CPU (Gloo), GPU (NCCL) and TPU.
_LOST = re.compile(
    "gloo|nccl|connection reset|connection closed|broken pipe|socket closed|unavailable:|deadline_exceeded|"
    "coordination|barrier|heartbeat|aborted:|cancelled:",
    re.IGNORECASE,
)
AGAIN = "Start the job again: a training run goes on from its last checkpoint"


class Notes(Protocol):
    """The part of JAX's client of the coordination service that is used here."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...  # noqa: D102

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...  # noqa: D102

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a job ends.

    Attributes:
      process: that failed first.
      status: the exit status of all.
      message: one line.
    """

    process: int
    status: int
    message: str


class Peers:
    """This process among those of its job.

    Args:
      notes: the client of the coordination service.
      process: number of this process.
      processes: how many there are.
      heartbeat: seconds after which JAX gives up a silent process.
      now: seconds, replaced in tests.
    """

    def __init__(self, notes: Notes, process: int, processes: int, heartbeat: float, now=time.monotonic):
        self.process, self.processes, self.heartbeat = process, processes, heartbeat
        self._notes, self._now = notes, now
        self._beats = 0
        self._late: list[int] = []
        self._heard: dict[str, tuple[str, float]] = {}

    def fail(self, status: int, message: str) -> Failure:
        """Says that this process has failed; the first failure of the job, which is another's if that came before."""
        own = Failure(self.process, status, message)
        try:
            self._notes.key_value_set(_FAILED, json.dumps(dataclasses.astuple(own)))
        except jax.errors.JaxRuntimeError:  # there is one already, or the service is gone
            return self.known() or own
        return own

    def wait(self, seconds: float) -> Failure | None:
        """The first failure of the job, None if there is none within some seconds.

        Raises:
          JaxRuntimeError: the service is gone.
        """
        try:
            return Failure(*json.loads(self._notes.blocking_key_value_get(_FAILED, int(1000 * seconds))))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return None
            raise

    def known(self) -> Failure | None:
        """The first failure of the job as far as one can tell, without waiting."""
        try:
            return self.wait(0.1)
        except jax.errors.JaxRuntimeError:
            return None

    def late(self) -> str:
        """A line about processes that do not answer; empty if all do."""
        return dict(self._notes.key_value_dir_get(_LATE)).get(f"{_LATE}line", "").strip()

    def beat(self) -> None:
        """Says that this process is alive; process 0 also listens, and notes who is late."""
        self._beats += 1
        self._notes.key_value_set(f"{_BEATS}{self.process}", str(self._beats), allow_overwrite=True)
        if self.process == 0 and (silent := self._silent()) != self._late:
            self._late = silent
            self._notes.key_value_set(f"{_LATE}line", self._describe(silent) if silent else " ", allow_overwrite=True)

    def _silent(self) -> list[int]:
        now = self._now()
        for key, beat in self._notes.key_value_dir_get(_BEATS):
            if self._heard.get(key, ("", 0.0))[0] != beat:
                self._heard[key] = (beat, now)
        late = self.heartbeat / 2
        found = [key for key, (beat, at) in self._heard.items() if beat != _REST and now - at > late]
        return sorted(int(key.rpartition("/")[2]) for key in found)

    def _describe(self, silent: list[int]) -> str:
        named = f"process{'es' if len(silent) > 1 else ''} {', '.join(map(str, silent))}"
        return (
            f"{named} of this job did not answer for {self.heartbeat / 2:.0f} s: killed, out of memory or hung. "
            f"JAX ends the job after {self.heartbeat:.0f} s of silence. {AGAIN}"
        )

    def rest(self) -> None:
        """Says that this process is going to end in good order, and is not to be missed."""
        self._notes.key_value_set(f"{_BEATS}{self.process}", _REST, allow_overwrite=True)

    def has_ended(self) -> None:
        """Says that this process has read why the job ends."""
        self._notes.key_value_set(f"{_ENDED}{self.process}", "1", allow_overwrite=True)

    def wait_for_others(self) -> None:
        """Process 0 waits until all others know; without it they would only see that the service is gone."""
        deadline = self._now() + LEAVE_SECONDS
        while self._now() < deadline and len(self._notes.key_value_dir_get(_ENDED)) < self.processes - 1:
            time.sleep(0.1)


_job: Peers | None = None


def join_job(notes: Notes, process: int, processes: int, heartbeat: float) -> Callable[[], None]:
    """Starts looking at the notes of the others, and makes an uncaught error of this process end the job.

    Returns:
      Ends the looking. Call it before JAX disconnects, and before Python ends: a thread that then waits in JAX's client
      aborts the process.
    """
    global _job
    _job = Peers(notes, process, processes, heartbeat)
    stop = threading.Event()
    thread = threading.Thread(target=_look, args=(_job, stop), name="peers", daemon=True)
    thread.start()
    sys.excepthook = _end_by_error

    def leave() -> None:
        stop.set()
        thread.join()

    return leave


def end_job(status: int, message: str) -> None:
    """Ends this process and all others with the exit status of whichever failed first; does nothing where it is alone.

    Args:
      status: exit status of this process.
      message: one line that the others say.
    """
    if _job is None:
        return
    failure = _job.fail(status, message)
    try:
        if _job.process == 0:
            _job.wait_for_others()
        else:
            _job.has_ended()
    except jax.errors.JaxRuntimeError:
        pass  # the service is gone
    _leave(failure.status)


def _look(job: Peers, stop: threading.Event) -> None:
    """Until stopped: beats, and ends this process when another has failed."""
    said = ""
    try:
        while not stop.is_set():
            job.beat()
            if (late := job.late()) != said and (said := late):
                _say(late)
            failure = job.wait(job.heartbeat / BEATS)
            if failure and failure.process != job.process:
                _say(f"process {failure.process} of this job failed: {failure.message}")
                end_job(failure.status, failure.message)
        job.rest()
    except jax.errors.JaxRuntimeError:
        if not stop.is_set():
            _say(f"process 0 of this job, or the way to it, is gone; its own output says why. {AGAIN}")
            _leave(EXIT_ABORTED)


def _end_by_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of a process of several: a normal exit would wait minutes for processes that wait for us."""
    text = " ".join(f"{kind.__name__}: {error}".split())
    if is_loss(error):
        known = _job.known() if _job else None
        if known:
            _say(f"process {known.process} of this job failed: {known.message}")
        else:
            _say(f"another process of this job is gone; its own output says why ({text[:200]}). {AGAIN}")
        end_job(EXIT_ABORTED, "another process of this job is gone; its own output says why")
    traceback.print_exception(kind, error, trace)
    end_job(130 if issubclass(kind, KeyboardInterrupt) else 1, text[:500])


def is_loss(error: Any) -> bool:
    """Whether an error of JAX says that another process is gone, and not that something is wrong here."""
    return isinstance(error, jax.errors.JaxRuntimeError) and bool(_LOST.search(str(error)))


def _say(line: str) -> None:
    print(f"vit_jax: {line}", file=sys.stderr, flush=True)


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
