"""What looks at the state now and then while the loop waits: saving, testing and drawing."""

from pathlib import Path
from typing import Protocol

from vit_jax.checkpoint import TrainingCheckpoints
from vit_jax.inspect import PAGE
from vit_jax.models import Params
from vit_jax.train.evaluations import Evaluation
from vit_jax.train.inspection import Inspection
from vit_jax.train.metrics import MetricsLog, due
from vit_jax.train.preflight import Plan
from vit_jax.train.progress import Reporter
from vit_jax.train.state import State

PICTURES = "inspect"  # folder of a workdir


class Hook(Protocol):
    """Something that looks at the state now and then; the loop waits for it."""

    def due(self, step: int) -> bool:
        """Whether it wants the state after `step`."""

    def run(self, step: int, state: State) -> None:
        """Called after `step`, when all metrics up to it are known to be finite."""


class SaveCheckpoint:
    """Saves the state; the arrays are copied at once and written in the background."""

    def __init__(self, plan: Plan, checkpoints: TrainingCheckpoints):
        self._plan, self._checkpoints = plan, checkpoints

    def due(self, step: int) -> bool:
        """See `Hook`."""
        return due(step, self._plan.steps.checkpoint, self._plan.steps.total)

    def run(self, step: int, state: State) -> None:
        """See `Hook`."""
        self._checkpoints.save(state, self._plan.metadata(step))

    def now(self, step: int, state: State) -> None:
        """Saves and waits until the save is complete."""
        self.run(step, state)
        self._checkpoints.wait()


class Evaluate:
    """Tests the parameters, or their average if there is one.

    Args:
      name: what its metrics begin with.
      evaluation: what is done and how often.
      total: steps of the run.
      metrics: where the numbers go.
      reporter: tells a person.
    """

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
