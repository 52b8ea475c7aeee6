"""A run that no longer gets on says where it is stuck."""

import datetime
import faulthandler
import os
import sys
import threading
from pathlib import Path
from typing import Self

from vit_jax import parallel
from vit_jax.errors import EXIT_ABORTED
from vit_jax.train.goodput import CHECKPOINT, COMPILE, EVALUATE, INPUT, OTHER, START, Goodput

_PLACES = {
    START: "starting",
    COMPILE: "compiling",
    INPUT: "waiting for input",
    CHECKPOINT: "saving a checkpoint",
    EVALUATE: "evaluating",
    OTHER: "waiting for the devices",
}
_STEPS = 10  # a step may take so many times the mean
_SLOW = 6  # so many times longer may take what is no step and happens now and then
_LOOKS = 20  # within the time allowed


class HangWatch:
    """A context in which a thread looks whether the run gets on, and writes down all stacks when it does not.

    Args:
      goodput: knows what the main thread does and since when.
      timeout: seconds that a step, or waiting for its input, may take; 0 does not look. Other things may take six times
        as long, and steps ten times their mean.
      folder: gets `process_<i>.txt`.
      exits: end the process, and with it the job, with a status that launchers start again.
    """

    def __init__(self, goodput: Goodput, timeout: float, folder: Path, exits: bool):
        self._goodput, self._timeout, self._exits = goodput, timeout, exits
        self._path = folder / f"process_{parallel.process_index()}.txt"
        self._stop = threading.Event()
        self._told: float | None = None

    def __enter__(self) -> Self:
        if self._timeout:
            threading.Thread(target=self._watch, name="hang watch", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(self._timeout / _LOOKS):
            self.look()

    def look(self) -> None:
        """Tells once if nothing has happened for too long."""
        since, activity = self._goodput.progress, self._goodput.activity
        waited = self._goodput.now() - since
        if waited < self._allowed(activity) or since == self._told:
            return
        self._told = since
        line = f"process {parallel.process_index()} hangs: {_PLACES[activity]} for {waited:.0f} s"
        if self._goodput.steps:
            line += f", after {self._goodput.steps} steps"
        self._dump(line)
        if self._exits:
            parallel.end_job(EXIT_ABORTED, line)
            os._exit(EXIT_ABORTED)

    def _allowed(self, activity: str) -> float:
        allowed = max(self._timeout, _STEPS * self._goodput.seconds_per_step)
        return allowed if activity in (INPUT, OTHER) else _SLOW * allowed

    def _dump(self, line: str) -> None:
        """Adds all stacks to the file and shows them."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a+", encoding="utf-8") as file:
            start = file.tell()
            print(f"{datetime.datetime.now().isoformat(' ', 'seconds')} {line}", file=file, flush=True)
            faulthandler.dump_traceback(file)
            file.seek(start)
            stacks = file.read().partition("\n")[2]
        print(f"vit_jax: {line}; stacks of all threads, also in {self._path}:\n{stacks}", file=sys.stderr, flush=True)
