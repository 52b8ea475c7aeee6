"""The restart rule of every place, and what an exit status says."""

import itertools
import signal
import sys
from collections.abc import Callable, Iterable

from vit_jax.errors import EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_OK, EXIT_RESUMABLE

# 42 asks to be run again; 128 + n is a process ended by signal n: preempted, out of memory, or its peer was lost.
RESUMABLE = (EXIT_RESUMABLE, *range(128, 256))
PREEMPTED = 128 + signal.SIGTERM

_MEANING = {
    EXIT_OK: "done",
    1: "a bug: see its traceback",
    EXIT_BAD_INPUT: "bad input",
    EXIT_DIVERGED: "the loss diverged",
    EXIT_RESUMABLE: "stopped and saved; the same command goes on",
}


def explain(status: int) -> str:
    """`137 (killed by SIGKILL)`."""
    meaning = _MEANING.get(status, "")
    if status > 128:
        names = {number.value: number.name for number in signal.Signals}
        meaning = f"ended by {names.get(status - 128, f'signal {status - 128}')}"
    return f"{status} ({meaning})" if meaning else str(status)


def shell_status(code: int) -> int:
    """A shell's view of `Popen.returncode`: 128 + the number of the signal that ended the process."""
    return code if code >= 0 else 128 - code


def job_status(statuses: Iterable[int]) -> int:
    """The exit status of a job: that of the first process that did not end with 0.

    Args:
      statuses: in the order in which the processes ended. What comes later is often but a consequence: peers of a
        process that is gone abort (134), or are killed.
    """
    return next((status for status in statuses if status), EXIT_OK)


def say(text: str) -> None:
    """A line of the launcher's own, apart from the output of the processes."""
    print(f"vit_jax launch: {text}", file=sys.stderr, flush=True)


def run_until_final(attempt: Callable[[], int], max_restarts: int, stopped: Callable[[], bool]) -> int:
    """Runs a job again as long as its exit status says that it may go on.

    Args:
      attempt: runs the job once and returns its exit status.
      max_restarts: how often it may be started again.
      stopped: whether the person asked to stop; then it is not.

    Returns:
      The exit status of the last attempt.
    """
    for restarts in itertools.count():
        status = attempt()
        if status not in RESUMABLE or stopped():
            return status
        if restarts >= max_restarts:
            if max_restarts:
                say(f"exit status {explain(status)}, and all {max_restarts} restarts are used up")
            return status
        say(f"exit status {explain(status)}: restart {restarts + 1} of {max_restarts}")
    raise AssertionError("unreachable")
