"""The metrics of each step: fetched late, checked, written when due."""

import collections
import math
from collections.abc import Callable, Mapping, Sequence

import jax

from vit_jax.errors import Diverged
from vit_jax.train.goodput import GoodputLog
from vit_jax.train.progress import Clock, Reporter
from vit_jax.train.tolerance import Tolerance
from vit_jax.train.utilisation import Utilisation
from vit_jax.train.writers import Writer

# Steps in flight before the loop waits for the oldest: keeps the device busy and host memory bounded.
IN_FLIGHT = 2
_MUST_BE_FINITE = ("loss", "gradient_norm", "update_norm")


def due(step: int, every: int, total: int) -> bool:
    """Whether something that happens `every` so many steps, and at the end, happens after `step`."""
    return step == total or (every > 0 and step % every == 0)


class MetricsLog:
    """Fetches the metrics of each step late, stops the run when they are not finite, writes those that are due.

    Args:
      every: steps between written records.
      total: steps of the run.
      writers: where records go; none on processes that do not write.
      reporter: tells a person.
      clock: counts finished steps.
      last_good: gives the newest save, for the advice when the run diverges.
      tolerance: of lines that cannot be written.
      account: knows the share of the time in steps that count; None for a run that has no account of its own.
    """

    def __init__(
        self,
        every: int,
        total: int,
        writers: Sequence[Writer],
        reporter: Reporter,
        clock: Clock,
        last_good: Callable[[], int | None],
        tolerance: Tolerance,
        account: GoodputLog | None = None,
    ):
        self._every, self._total = every, total
        self._tolerance, self._account = tolerance, account
        self._writers, self._reporter, self._clock, self._last_good = writers, reporter, clock, last_good
        self._utilisation: Utilisation | None = None
        self._pending: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of a step that was just dispatched."""
        self._pending.append((step, metrics))
        while len(self._pending) > IN_FLIGHT:
            self._fetch()

    def flush(self) -> None:
        """Waits for all steps so far; raises Diverged if one of them was not finite."""
        while self._pending:
            self._fetch()

    def _fetch(self) -> None:
        step, metrics = self._pending.popleft()
        scalars = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._clock.tick()
        bad = [f"{name} = {scalars[name]}" for name in _MUST_BE_FINITE if not math.isfinite(scalars[name])]
        if bad or due(step, self._every, self._total):
            self.write(step, {**scalars, **self._rates()})
            self._reporter.metrics(step, self._total, {**scalars, **self._use()}, self._clock)
        self._reporter.advance(step, self._clock.images_per_second)
        if bad:
            raise Diverged(f"step {step} diverged: {', '.join(bad)}. {self._advice()}")

    def _rates(self) -> dict[str, float]:
        found = {"goodput": self._account.shares()["goodput"]} if self._account else {}
        if rate := self._clock.images_per_second:
            found["images_per_second"] = rate
        return {**found, **self._use()}

    def _use(self) -> dict[str, float]:
        seconds = self._clock.seconds_per_step
        return self._utilisation.shares(seconds) if self._utilisation and seconds else {}

    def measure(self, utilisation: Utilisation | None) -> None:
        """From now on, records say how much of the devices is used."""
        self._utilisation = utilisation

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
            with self._tolerance.writing(writer.name):
                writer.write(step, scalars)

    def close(self) -> None:
        """Closes the writers."""
        for writer in self._writers:
            writer.close()
