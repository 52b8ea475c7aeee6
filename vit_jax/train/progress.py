"""How a run looks to a person: a line now and then, with a live bar on a terminal."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Clock:
    """Throughput of training alone: compilation, evaluation and saving are not counted.

    Args:
      batch_size: global, images per step.
      now: seconds, replaced in tests.
    """

    def __init__(self, batch_size: int, now=time.perf_counter):
        self._batch_size, self._now = batch_size, now
        self._last: float | None = None
        self._steps, self._seconds = 0, 0.0

    def tick(self) -> None:
        """A step has finished."""
        now = self._now()
        if self._last is not None:
            self._steps += 1
            self._seconds += now - self._last
        self._last = now

    def pause(self) -> None:
        """Something other than training begins; counting goes on with the next step but one."""
        self._last = None

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over the run so far; None before the second step."""
        return self._seconds / self._steps if self._steps else None

    @property
    def images_per_second(self) -> float | None:
        """Over all devices."""
        seconds = self.seconds_per_step
        return self._batch_size / seconds if seconds else None


class Reporter:
    """Prints what happens, on the main process only; a progress bar where standard error is a terminal."""

    def __init__(self, enabled: bool = True):
        self._enabled = enabled
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def say(self, text: str) -> None:
        """One line."""
        if self._enabled:
            self._console.print(text, markup=False)

    def start(self, first: int, total: int) -> None:
        """The run begins after step `first`."""
        if self._enabled and self._console.is_terminal:
            bar = (TextColumn("training"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"))
            self._progress = Progress(*bar, TextColumn("ETA"), TimeRemainingColumn(), console=self._console)
            self._task = self._progress.add_task("", total=total, completed=first, rate="")
            self._progress.start()

    def advance(self, step: int, images_per_second: float | None) -> None:
        """Moves the bar."""
        if self._progress is not None:
            rate = f"{images_per_second:,.0f} images/s" if images_per_second else "compiling"
            self._progress.update(self._task, completed=step, rate=rate)

    def metrics(self, step: int, total: int, scalars: Mapping[str, float], clock: Clock) -> None:
        """The line of a step: step, loss, accuracy, images/s, MFU where it is known, ETA."""
        parts = [f"step {step:>{len(str(total))}}/{total}", f"loss {scalars['loss']:.4f}"]
        if "accuracy" in scalars:
            parts.append(f"accuracy {scalars['accuracy']:6.1%}")
        if clock.images_per_second and clock.seconds_per_step:
            parts.append(f"{clock.images_per_second:,.0f} images/s")
            if "mfu" in scalars:
                parts.append(f"MFU {scalars['mfu']:.1%}")
            parts.append(f"ETA {duration(clock.seconds_per_step * (total - step))}")
        self.say(" | ".join(parts))

    def stop(self) -> None:
        """The run has ended."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def duration(seconds: float) -> str:
    """`1:02:03`, `2:03`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
