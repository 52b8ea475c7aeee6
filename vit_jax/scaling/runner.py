"""Runs what a sweep still lacks, in this process: one run after another, each in its own folder under a lock.

Several such processes may work on one sweep: each takes what nobody else has. A run that fails is recorded and the
others go on.
"""

import dataclasses
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

import jax

from vit_jax import data, parallel
from vit_jax.errors import EXIT_DIVERGED, EXIT_OK, Diverged, Stopped, Unsaved, UserError
from vit_jax.folder_lock import FolderLock
from vit_jax.scaling.study import SWEEP_LOCK, Attempt, record_attempt, run_folder, run_status
from vit_jax.scaling.sweeps import Sweep, SweepRun
from vit_jax.train import Reporter, RunSettings, together_key, train, train_together

POLL_SECONDS = 2.0
_BUG = 1


@dataclasses.dataclass(frozen=True)
class Scope:
    """What of a sweep this process does.

    Attributes:
      only: names of the runs; None for all.
      retry: try diverged runs again, too; other failures are tried again in any case.
      together: so many runs that differ in numbers alone are trained as one program.
    """

    only: frozenset[str] | None = None
    retry: bool = False
    together: int = 1


class Runner:
    """Does the runs of a sweep that are missing.

    Args:
      sweep: from `load_sweep`.
      workdir: of the sweep, which `save_sweep` made.
      scope: which runs, and how.
      reporter: tells a person.
      distributed: whether this is one process of a job that `parallel.start` joined; then all processes call this.
    """

    def __init__(self, sweep: Sweep, workdir: Path, scope: Scope, reporter: Reporter, distributed: bool = False):
        self._runs = [run for run in sweep.runs if scope.only is None or run.name in scope.only]
        self._workdir, self._scope = workdir, scope
        self._reporter, self._distributed = reporter, distributed
        self._tried: set[str] = set()

    def run(self) -> None:
        """Tries each missing run once, parents before those that start from them; waits for runs of other processes.

        Raises:
          Stopped: by SIGTERM or Ctrl-C; the run under way has saved its state.
        """
        waiting = False
        while True:
            runs, locks, held = self._take() if parallel.is_main() else ([], [], 0)
            numbers = self._agree([self._runs.index(run) for run in runs])
            runs = [self._runs[number] for number in numbers]
            try:
                if runs:
                    self._tried |= {run.name for run in runs}
                    self._do(runs)
            finally:
                for lock in locks:
                    lock.release()
            if not runs and not parallel.from_main(held):
                return
            if not runs:
                if not waiting:
                    self._reporter.say(f"waiting for {held} runs that other processes have taken")
                waiting = True
                time.sleep(POLL_SECONDS)

    def _take(self) -> tuple[list[SweepRun], list[FolderLock], int]:
        """Runs to train now, with their locks; and how many others have that we may want.

        The first one that can be had, and what can be trained with it.
        """
        taken: list[SweepRun] = []
        locks: list[FolderLock] = []
        held, most = 0, 1 if self._distributed else self._scope.together
        for run in self._runs:
            if len(taken) == most:
                break
            if taken and together_key(run.settings) != together_key(taken[0].settings):
                continue
            if not self._wanted(run):
                continue
            lock = FolderLock(run_folder(self._workdir, run.name))
            if not lock.acquire():
                held += 1
            elif self._wanted(run):  # nobody did it meanwhile
                taken.append(run)
                locks.append(lock)
            else:
                lock.release()
        return taken, locks, held

    def _wanted(self, run: SweepRun) -> bool:
        """Whether a run is missing and may start."""
        if run.name in self._tried:
            return False
        if run.parent and run_status(run_folder(self._workdir, run.parent))[0] != "done":
            return False
        status, last = run_status(run_folder(self._workdir, run.name))
        diverged = status == "failed" and last is not None and last.status == EXIT_DIVERGED
        return status != "done" and not (diverged and not self._scope.retry)

    def _agree(self, numbers: Sequence[int]) -> list[int]:
        """The main process's choice, on every process of a distributed job, where it is at most one run."""
        if not self._distributed:
            return list(numbers)
        chosen = parallel.from_main(numbers[0] if numbers else -1)
        return [] if chosen < 0 else [chosen]

    def _do(self, runs: Sequence[SweepRun]) -> None:
        """Trains the runs and records what became of each."""
        left = sum(run_status(run_folder(self._workdir, run.name))[0] != "done" for run in self._runs)
        for run in runs:
            self._reporter.say(f"\n== {run.name} ({left} of {len(self._runs)} runs left)")
        began = time.monotonic()
        try:
            self._prepare(runs[0].settings)
            outcomes = self._train(runs)
        except Stopped as stopped:
            outcomes = [stopped] * len(runs)
        seconds = time.monotonic() - began
        for run, outcome in zip(runs, outcomes, strict=True):
            self._record(run, outcome, seconds, len(runs))
        jax.clear_caches()  # programs of other shapes, which no later run needs
        for outcome in outcomes:
            if isinstance(outcome, Stopped):
                raise outcome

    def _train(self, runs: Sequence[SweepRun]) -> Sequence[BaseException | None]:
        settings = [located(run, self._workdir) for run in runs]
        folders = [run_folder(self._workdir, run.name) for run in runs]
        if len(runs) > 1:
            return train_together(settings, folders, reporter=self._reporter)
        return [_outcome(lambda: self._train_one(settings[0], folders[0]), self._distributed)]

    def _train_one(self, settings: RunSettings, folder: Path) -> None:
        train(settings, folder, reporter=self._reporter, distributed=self._distributed)

    def _prepare(self, settings: RunSettings) -> None:
        """An embedded data set is made by one process at a time."""
        with parallel.together():
            if parallel.is_main():
                with FolderLock(self._workdir, SWEEP_LOCK):
                    data.prepare_embedded(settings.data.name, settings.data.data_dir)

    def _record(self, run: SweepRun, outcome: BaseException | None, seconds: float, together: int) -> None:
        if not parallel.is_main():
            return
        status = EXIT_OK if outcome is None else getattr(outcome, "exit_code", _BUG)
        error = "" if outcome is None or isinstance(outcome, Stopped) else _one_line(outcome)
        if error:
            self._reporter.say(f"{run.name} failed: {error}")
        device = jax.devices()[0]
        attempt = Attempt(seconds, status, error, jax.device_count(), device.device_kind, together)
        record_attempt(run_folder(self._workdir, run.name), attempt)


def located(run: SweepRun, workdir: Path) -> RunSettings:
    """The settings of a run, with the weights of its parent where they lie."""
    if not run.parent:
        return run.settings
    weights = str(run_folder(workdir.absolute(), run.parent))
    return dataclasses.replace(run.settings, init=dataclasses.replace(run.settings.init, checkpoint=weights))


def _outcome(function: Callable[[], None], distributed: bool) -> BaseException | None:
    """What ended a run; None if nothing did. A bug is shown.

    In a distributed job, what the other processes do not know of ends the process.
    """
    try:
        function()
    except (UserError, Diverged, Unsaved) as error:
        if distributed and error.alone:
            raise
        return error
    except Stopped:
        raise
    except Exception as error:
        if distributed:  # the other processes do not know of it
            raise
        traceback.print_exc()
        return error
    return None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError | Diverged | Unsaved) else f"{type(error).__name__}: {text}"[:500]


class Stopping:
    """A context in which SIGTERM and SIGINT raise `Stopped`, but in training, which saves first and does the same."""

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped("stopped between runs: the same command goes on")
