"""Runs a sweep in a process of its own, and starts another when a run takes the first one down with it.

What a run can do wrong in Python is caught where it runs; what ends the process itself, memory that runs out or a crash
in a library, is seen from here: it becomes that run's error, and the others go on.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from vit_jax.errors import EXIT_RESUMABLE
from vit_jax.folder_lock import LOCK_FILE, read_holder
from vit_jax.scaling.study import Attempt, Study, read_study, record_attempt, run_folder

_POLL_SECONDS = 1.0


def supervise(command: Callable[[Sequence[str]], Sequence[str]], workdir: Path) -> int:
    """Works on a sweep until every missing run was tried once.

    Args:
      command: what to start; it gets the names of runs that must not be tried again, and should pass them on.
      workdir: of the sweep.

    Returns:
      The exit status of the last process; 42 after SIGTERM or Ctrl-C.
    """
    worker = _Worker()
    before = {number: signal.signal(number, worker.pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    lost: list[str] = []
    try:
        while True:
            began = time.monotonic()
            status = worker.run(command(lost))
            if worker.stopped:
                return EXIT_RESUMABLE
            if 0 <= status < 128:
                return status
            found = _lost_runs(workdir, worker.pid)
            for name in found:
                attempt = Attempt(time.monotonic() - began, _shell(status), f"its process {_ended(status)}")
                record_attempt(run_folder(workdir, name), attempt)
            if not found:  # it died before it had a run: another would, too
                return _shell(status)
            lost += found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Worker:
    """The process under way."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self.stopped = False

    def run(self, command: Sequence[str]) -> int:
        """Runs a command to its end; negative if a signal ended it."""
        # In a session of its own, so that signals reach it through us, once.
        self._process = subprocess.Popen(command, start_new_session=True)
        return self._process.wait()

    @property
    def pid(self) -> int:
        """Of the last process."""
        return self._process.pid if self._process else 0

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        self.stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def _lost_runs(workdir: Path, pid: int) -> list[str]:
    """The runs whose locks still have the name of a process that is gone."""
    study: Study = read_study(workdir)
    holders = {run.cost.name: read_holder(run_folder(workdir, run.cost.name) / LOCK_FILE) for run in study.runs}
    return [name for name, holder in holders.items() if holder and holder.pid == pid and holder.is_here]


def _shell(status: int) -> int:
    return status if status >= 0 else 128 - status


def _ended(status: int) -> str:
    number = _shell(status) - 128
    names = {known.value: known.name for known in signal.Signals}
    hint = ": was there memory enough?" if number == signal.SIGKILL else ""
    return f"was ended by {names.get(number, f'signal {number}')}{hint}"


def end_with_parent(parent: int) -> None:
    """Asks this process to stop when its parent is gone, which may have been killed.

    Args:
      parent: its process number.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
