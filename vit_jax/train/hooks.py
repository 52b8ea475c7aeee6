"""What happens around the steps of a run: metrics, evaluation, checkpoints."""

import collections
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from vit_jax import parallel
from vit_jax.checkpoint import TrainingCheckpoints
from vit_jax.errors import Diverged
from vit_jax.evaluate import Classification
from vit_jax.train.preflight import Plan
from vit_jax.train.progress import Clock, Reporter
from vit_jax.train.state import State
from vit_jax.train.writers import Writer

# Steps in flight before the loop waits for the oldest: keeps the device busy and host memory bounded.
IN_FLIGHT = 2
_MUST_BE_FINITE = ("loss", "gradient_norm", "update_norm")


def due(step: int, every: int, total: int) -> bool:
    """Whether something that happens `every` so many steps, and at the end, happens after `step`."""
    return step == total or (every > 0 and step % every == 0)


class Hook(Protocol):
    """Something that looks at the state now and then; the loop waits for it."""

    def due(self, step: int) -> bool:
        """Whether it wants the state after `step`."""

    def run(self, step: int, state: State) -> None:
        """Called after `step`, when all metrics up to it are known to be finite."""


class MetricsLog:
    """Fetches the metrics of each step late, stops the run when they are not finite, writes those that are due."""

    def __init__(self, plan: Plan, writers: Sequence[Writer], reporter: Reporter, clock: Clock, last_good: Any):
        self._plan, self._writers, self._reporter, self._clock = plan, writers, reporter, clock
        self._last_good = last_good
        self._pending: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of a step that was just dispatched."""
        self._pending.append((step, metrics))
        while len(self._pending) > IN_FLIGHT:
            self._fetch()

    def flush(self) -> None:
        """Waits for all steps so far."""
        while self._pending:
            self._fetch()

    def _fetch(self) -> None:
        step, metrics = self._pending.popleft()
        scalars = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._clock.tick()
        bad = [f"{name} = {scalars[name]}" for name in _MUST_BE_FINITE if not math.isfinite(scalars[name])]
        total = self._plan.steps.total
        if bad or due(step, self._plan.steps.log, total):
            rate = self._clock.images_per_second
            self.write(step, {**scalars, **({"images_per_second": rate} if rate else {})})
            self._reporter.metrics(step, total, scalars, self._clock)
        self._reporter.advance(step, self._clock.images_per_second)
        if bad:
            raise Diverged(f"step {step} diverged: {', '.join(bad)}. {self._advice()}")

    def _advice(self) -> str:
        good = self._last_good()
        saved = "there is no checkpoint yet" if good is None else f"the last good checkpoint is step {good}, untouched"
        return (
            f"{saved}. Try, in a new workdir, a lower config.schedule.learning_rate, a longer config.schedule.warmup "
            "or config.optimizer.clip_norm=1"
        )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars of any kind to every writer."""
        for writer in self._writers:
            writer.write(step, scalars)

    def close(self) -> None:
        """Closes the writers."""
        for writer in self._writers:
            writer.close()


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


class Evaluate:
    """Tests the parameters, or their average if there is one, on the evaluation split."""

    def __init__(self, plan: Plan, metrics: MetricsLog, reporter: Reporter):
        assert plan.eval_data is not None
        self._plan, self._metrics, self._reporter = plan, metrics, reporter
        size = plan.eval_batch_size
        self._evaluator = Classification(plan.model, plan.eval_data, plan.mesh, size, plan.state["params"])
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


def traces(workdir: Path) -> Path:
    """Where this process's profiler traces go."""
    return workdir / "profile" / f"process_{parallel.process_index()}"
