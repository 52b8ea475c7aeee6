"""Several runs trained as one program, each with its own workdir, metrics, tests, checkpoints and export."""

import collections
import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vit_jax import parallel
from vit_jax.checkpoint import CHECKPOINTS, TrainingCheckpoints
from vit_jax.errors import Diverged, Stopped, Unsaved, UserError
from vit_jax.train.evaluations import Evaluation
from vit_jax.train.hooks import PICTURES, Evaluate, Hook, Inspect, SaveCheckpoint
from vit_jax.train.inspection import Inspection
from vit_jax.train.loop import export, train
from vit_jax.train.metrics import IN_FLIGHT, MetricsLog, due
from vit_jax.train.preflight import preflight
from vit_jax.train.progress import Clock, Reporter
from vit_jax.train.settings import RunSettings
from vit_jax.train.state import State
from vit_jax.train.step import Batch, Metrics
from vit_jax.train.stopping import StopSignal
from vit_jax.train.tolerance import Tolerance
from vit_jax.train.vectorised import Vectorised, together_key
from vit_jax.train.workdir import check_same_run, claim
from vit_jax.train.writers import METRICS_FILE, has_evaluation, make_writers

# What may end one of the runs while the others go on.
Ending = UserError | Diverged | Unsaved


def train_together(
    settings: Sequence[RunSettings], workdirs: Sequence[str | Path], *, reporter: Reporter | None = None
) -> list[Ending | None]:
    """Trains runs that differ in numbers alone to the end, as one program as far as memory allows.

    Each run's workdir is one that `train` could have written, and `train` goes on with it. Runs go on from their newest
    checkpoints; those that have come as far as each other are trained together, others by themselves. In one process.

    Args:
      settings: of the runs; `together_key` of all is the same.
      workdirs: of each.
      reporter: tells a person what happens.

    Returns:
      For each run what ended it, None if it was trained to its end.

    Raises:
      Stopped: by SIGTERM or Ctrl-C; the states of the current step are saved.
      ValueError: the runs cannot be trained together.
    """
    if len({together_key(s) for s in settings}) > 1:
        raise ValueError("runs that differ in more than numbers cannot be trained together")
    reporter = reporter or Reporter()
    outcomes: list[Ending | None] = [None] * len(settings)
    progress: dict[int, list[_Run]] = {}
    for i, (own, workdir) in enumerate(zip(settings, workdirs, strict=True)):
        try:
            run = _Run(i, own, workdir, next((runs[0] for runs in progress.values()), None), reporter)
            progress.setdefault(run.first, []).append(run)
        except UserError as error:
            outcomes[i] = error
    for runs in progress.values():
        if len(runs) == 1 or runs[0].first == runs[0].total:
            for run in runs:
                run.close()
                outcomes[run.number] = _train_alone(settings[run.number], workdirs[run.number], reporter)
            continue
        try:
            _train_as_far_as_memory_allows(runs, reporter)
        finally:
            for run in runs:
                run.close()
        for run in runs:
            outcomes[run.number] = run.outcome
    return outcomes


def _train_alone(settings: RunSettings, workdir: str | Path, reporter: Reporter) -> Ending | None:
    try:
        train(settings, workdir, reporter=reporter)
    except (UserError, Diverged, Unsaved) as error:
        return error
    return None


class _Run:
    """One of the runs: its workdir and what writes there.

    Args:
      number: among the runs.
      settings: of the run.
      workdir: of the run.
      like: another run of the same program, whose tests are compiled and whose images are read already.
      reporter: tells a person.

    Raises:
      UserError: something is wrong with the config, the data or the workdir.
    """

    def __init__(
        self, number: int, settings: RunSettings, workdir: str | Path, like: "_Run | None", reporter: Reporter
    ):
        self.number = number
        self.plan = preflight(settings)
        self.total = self.plan.steps.total
        self._folder = claim(workdir, settings)
        self._checkpoints = TrainingCheckpoints(
            self._folder / CHECKPOINTS, settings.checkpoint.keep_last, self.plan.steps.keep
        )
        self.first = self._checkpoints.latest() or 0
        self.evaluations: dict[str, Evaluation] = like.evaluations if like else self.plan.evaluations
        self.inspection: Inspection | None = like.inspection if like else self.plan.inspection
        self._reporter = _Named(reporter, self._folder.name)
        self._opened = contextlib.ExitStack()
        self.outcome: Ending | None = None

    def start(self, state: Callable[[], State]) -> None:
        """Opens the files, and makes up for tests that were missed at the step it goes on from."""
        settings, plan = self.plan.settings, self.plan
        writers, _ = make_writers(self._folder, self.first, settings.log.tensorboard)
        self.clock = Clock(settings.train.batch_size)
        tolerance = Tolerance(settings.checkpoint.on_error == "stop", self._reporter)
        self.save = SaveCheckpoint(plan, self._checkpoints, tolerance)
        self._metrics = MetricsLog(
            plan.steps.log, self.total, writers, self._reporter, self.clock, self.save.newest, tolerance
        )
        self._opened.callback(self._metrics.close)
        self._tests = [
            Evaluate(name, about, self.total, self._metrics, self._reporter) for name, about in self.evaluations.items()
        ]
        album = self.inspection
        self._albums = [Inspect(album, self.total, self._folder / PICTURES, self._reporter)] if album else []
        for test in self._tests if self.first else ():
            if test.due(self.first) and not has_evaluation(self._folder / METRICS_FILE, test.name, self.first):
                test.run(self.first, state())
        for drawn in self._albums if self.first else ():
            if drawn.missed(self.first):
                drawn.run(self.first, state())

    @property
    def hooks(self) -> list[Hook]:
        """What looks at the state now and then."""
        return [self.save, *self._tests, *self._albums]

    def restore(self) -> State:
        """The state of the newest checkpoint."""
        metadata = self.plan.metadata(self.first)
        where = f"checkpoint {self._checkpoints.directory / str(self.first)}"
        check_same_run(self._checkpoints.description(self.first), metadata, where)
        return self._checkpoints.restore(self.plan.state, metadata, self.first)

    def guard(self, action: Callable[..., object], *arguments: Any) -> None:
        """Does something for the run, unless it has ended; what it raises is how the run ends."""
        if self.outcome is None:
            try:
                action(*arguments)
            except (UserError, Diverged, Unsaved) as error:
                self.outcome = error
                self._reporter.say(str(error))

    def add(self, step: int, scalars: dict[str, Any]) -> None:
        """Takes the metrics of a step."""
        self._metrics.add(step, scalars)
        self.save.check()

    def flush(self) -> None:
        """Looks at all metrics so far."""
        self._metrics.flush()

    def look(self, step: int, state: State) -> None:
        """Runs the hooks that are due."""
        for hook in self.hooks:
            if hook.due(step):
                hook.run(step, state)
        self.clock.pause()

    def finish(self, state: State) -> None:
        """Writes the final weights, when all that was saved is complete."""
        self.save.finish()
        export(self.plan, state, self._folder)

    def close(self) -> None:
        """Gives back files and threads."""
        self._opened.close()
        self.guard(self._checkpoints.close)


def _train_as_far_as_memory_allows(runs: Sequence[_Run], reporter: Reporter) -> None:
    """Trains all at once, or one half after the other if that would not fit."""
    program = Vectorised([run.plan for run in runs])
    batches = program.batches(runs[0].first)
    first = next(batches)
    compiled = program.compile(first)
    if len(runs) > 1 and parallel.program_bytes(compiled) > parallel.available_bytes(runs[0].plan.mesh):
        half = len(runs) // 2
        reporter.say(f"memory is short for {len(runs)} runs at once: {half} now, the others after them")
        del compiled, batches, first
        _train_as_far_as_memory_allows(runs[:half], reporter)
        _train_as_far_as_memory_allows(runs[half:], reporter)
        return
    for line in runs[0].plan.describe():
        reporter.say(line)
    reporter.say(f"together  {len(runs)} runs as one program")
    if runs[0].first:
        reporter.say(f"resuming from step {runs[0].first}")
    states = program.stack([run.restore() for run in runs]) if runs[0].first else program.fresh()
    with StopSignal(distributed=False) as stop:
        try:
            reporter.start(runs[0].first, runs[0].total)
            for i, run in enumerate(runs):
                run.start(lambda i=i: program.take(states, i))  # type: ignore[misc]
            _steps(program, compiled, runs, states, _chain(first, batches), stop, reporter)
        finally:
            reporter.stop()


def _chain(first: tuple[Batch, ...], others: Iterable[tuple[Batch, ...]]) -> Iterable[tuple[Batch, ...]]:
    yield first
    yield from others


def _steps(
    program: Vectorised,
    compiled: Callable[..., Any],
    runs: Sequence[_Run],
    states: State,
    batches: Iterable[tuple[Batch, ...]],
    stop: StopSignal,
    reporter: Reporter,
) -> None:
    """All steps; runs that diverge are left behind."""
    total, log = runs[0].total, runs[0].plan.steps.log
    pending: collections.deque[tuple[int, Metrics]] = collections.deque()

    def fetch() -> None:
        step, metrics = pending.popleft()
        found = {name: np.asarray(values) for name, values in jax.device_get(metrics).items()}
        for i, run in enumerate(runs):
            run.guard(run.add, step, {name: values[i] for name, values in found.items()})
        if due(step, log, total):
            losses = " ".join(f"{loss:.4f}" for loss in found["loss"])
            reporter.say(f"step {step:>{len(str(total))}}/{total} | loss {losses}")
        reporter.advance(step, runs[0].clock.images_per_second)

    for step, batch in enumerate(batches, runs[0].first + 1):
        states, metrics = program.run(compiled, states, batch)
        pending.append((step, metrics))
        stopping = stop.requested(step) and step < total
        looking = stopping or any(hook.due(step) for hook in runs[0].hooks)
        while len(pending) > (0 if looking else IN_FLIGHT):
            fetch()
        if looking:
            _look(program, runs, states, step, stopping)
        if all(run.outcome for run in runs):
            return
    for i, run in enumerate(runs):
        if run.outcome is None:
            run.guard(run.finish, program.take(states, i))


def _look(program: Vectorised, runs: Sequence[_Run], states: State, step: int, stopping: bool) -> None:
    """Runs the hooks that are due; or saves and stops."""
    for i, run in enumerate(runs):
        run.guard(run.flush)
        if run.outcome is None:
            run.guard(run.save.now if stopping else run.look, step, program.take(states, i))
    if stopping:
        raise Stopped(f"stopped after step {step} of {runs[0].total}, saved: the same command resumes")


class _Named(Reporter):
    """Tells what concerns one of several runs, and leaves out its steps."""

    def __init__(self, reporter: Reporter, name: str):
        super().__init__(enabled=False)
        self._to, self._name = reporter, name

    def say(self, text: str) -> None:
        """One line."""
        self._to.say(f"{self._name} | {text}")

    def metrics(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the group's line has the losses."""
