"""What looks at the state now and then while the loop waits: saving, testing and drawing."""

import contextlib
from pathlib import Path
from typing import Protocol

from vit_jax import parallel
from vit_jax.checkpoint import TrainingCheckpoints
from vit_jax.errors import Unsaved
from vit_jax.inspect import PAGE
from vit_jax.models import Params
from vit_jax.train.evaluations import Evaluation
from vit_jax.train.goodput import CHECKPOINT, EVALUATE
from vit_jax.train.inspection import Inspection
from vit_jax.train.metrics import MetricsLog, due
from vit_jax.train.preflight import Plan
from vit_jax.train.progress import Reporter
from vit_jax.train.state import State
from vit_jax.train.tolerance import Tolerance

PICTURES = "inspect"  # folder of a workdir


class Hook(Protocol):
    """Something that looks at the state now and then; the loop waits for it.

    Attributes:
      activity: what the time it takes is accounted for, see `goodput`.
    """

    activity: str

    def due(self, step: int) -> bool:
        """Whether it wants the state after `step`."""

    def run(self, step: int, state: State) -> None:
        """Called after `step`, when all metrics up to it are known to be finite."""


class SaveCheckpoint:
    """Saves the state; the arrays are copied at once and written in the background.

    A save that fails ends the run or is said and left out, as `tolerance` has it.
    """

    activity = CHECKPOINT

    def __init__(self, plan: Plan, checkpoints: TrainingCheckpoints, tolerance: Tolerance):
        self._plan, self._checkpoints, self._tolerance = plan, checkpoints, tolerance

    def due(self, step: int) -> bool:
        """See `Hook`."""
        return due(step, self._plan.steps.checkpoint, self._plan.steps.total)

    def run(self, step: int, state: State) -> None:
        """See `Hook`."""
        self.finish()
        try:
            self._checkpoints.save(state, self._plan.metadata(step))
        except Unsaved as error:
            if parallel.process_count() > 1:  # the others wait for this one
                raise
            self._tolerance.take(error)

    def check(self) -> None:
        """Deals with a save that has failed since; called after every step, waits for nothing."""
        try:
            self._checkpoints.check()
        except Unsaved as error:
            self._tolerance.take(error)

    def finish(self) -> None:
        """Waits until the save under way is complete."""
        try:
            self._checkpoints.wait()
        except Unsaved as error:
            self._tolerance.take(error)

    def now(self, step: int, state: State) -> int | None:
        """Saves and waits until the save is complete; the newest step that is saved then."""
        self.run(step, state)
        self.finish()
        return self._checkpoints.latest()

    def newest(self) -> int | None:
        """The newest good save; waits for the one under way."""
        with contextlib.suppress(Unsaved):
            self._checkpoints.wait()
        return self._checkpoints.latest()


class Evaluate:
    """Tests the parameters, or their average if there is one.

    Args:
      name: what its metrics begin with.
      evaluation: what is done and how often.
      total: steps of the run.
      metrics: where the numbers go.
      reporter: tells a person.
    """

    activity = EVALUATE

    def __init__(self, name: str, evaluation: Evaluation, total: int, metrics: MetricsLog, reporter: Reporter):
        self.name = name
        self._evaluation, self._total, self._metrics, self._reporter = evaluation, total, metrics, reporter
        self.last: dict[str, float] = {}

    def due(self, step: int) -> bool:
        """See `Hook`."""
        return due(step, self._evaluation.every, self._total)

    def run(self, step: int, state: State) -> None:
        """See `Hook`."""
        self.test(step, state)
        self._metrics.write(step, {f"{self.name}/{metric}": value for metric, value in self.last.items()})

    def test(self, step: int, state: State) -> None:
        """Evaluates and says the result, without recording it."""
        self.last = self._evaluation.evaluator.run(_judged(state))
        self._reporter.say(f"step {step} | {self._evaluation.title}: {self._evaluation.evaluator.describe(self.last)}")


class Inspect:
    """Draws the parameters, or their average if there is one, into `<folder>/<step>`.

    Args:
      inspection: what is drawn and how often.
      total: steps of the run.
      folder: of all pictures of the run.
      reporter: tells a person.
    """

    activity = EVALUATE

    def __init__(self, inspection: Inspection, total: int, folder: Path, reporter: Reporter):
        self._inspection, self._total, self._folder, self._reporter = inspection, total, folder, reporter

    def due(self, step: int) -> bool:
        """See `Hook`."""
        return due(step, self._inspection.every, self._total)

    def run(self, step: int, state: State) -> None:
        """See `Hook`."""
        album = self._inspection.draw(_judged(state), self._place(step), step)
        self._reporter.say(f"step {step} | pictures: {album.page}")

    def missed(self, step: int) -> bool:
        """Whether pictures of `step` are due and not there; the same on every process that sees the folder."""
        return self.due(step) and not (self._place(step) / PAGE).exists()

    def _place(self, step: int) -> Path:
        return self._folder / f"{step:09d}"


def _judged(state: State) -> Params:
    """The average of the parameters if there is one, else the parameters."""
    return state["ema"] if "ema" in state else state["params"]
