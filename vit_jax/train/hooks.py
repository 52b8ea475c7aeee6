"""What looks at the state now and then while the loop waits: saving and testing."""

from typing import Protocol

from vit_jax.checkpoint import TrainingCheckpoints
from vit_jax.evaluate import Classification
from vit_jax.train.metrics import MetricsLog, due
from vit_jax.train.preflight import Plan
from vit_jax.train.progress import Reporter
from vit_jax.train.state import State


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
    """Tests the parameters, or their average if there is one, on the evaluation split."""

    def __init__(self, plan: Plan, metrics: MetricsLog, reporter: Reporter):
        assert plan.eval_data is not None
        self._plan, self._metrics, self._reporter = plan, metrics, reporter
        self._evaluator = Classification(
            plan.model,
            plan.eval_data,
            plan.mesh,
            plan.eval_batch_size,
            loss=plan.settings.train.loss,
            params=plan.state["params"],
        )
        self.last: dict[str, float] = {}

    def due(self, step: int) -> bool:
        """See `Hook`."""
        return due(step, self._plan.steps.evaluate, self._plan.steps.total)

    def run(self, step: int, state: State) -> None:
        """See `Hook`."""
        self.test(step, state)
        self._metrics.write(step, {f"eval/{name}": value for name, value in self.last.items()})

    def test(self, step: int, state: State) -> None:
        """Evaluates and says the result, without recording it."""
        self.last = self._evaluator.run(state["ema"] if "ema" in state else state["params"])
        split, result = self._plan.settings.evaluate.split, self.last
        text = f"step {step} | {split}: accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}"
        self._reporter.say(f"{text}, {result['examples']:,.0f} images")
