"""Where the wall time of a run goes: into steps that count, and into what keeps the devices from them.

The main thread says what it does (`during`) and when it hands a step to the devices (`dispatched`); `StepWatch` says
when they have finished it. From that follows, without making anybody wait, when the devices were busy with a step: from
its dispatch, or from the end of the step before it, to its end. All other time belongs to what the main thread did
meanwhile. So input that is fetched while the devices compute costs nothing, as it should.
"""

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vit_jax.train.lines import JsonLinesFile, read_json_lines
from vit_jax.train.progress import duration

GOODPUT_FILE = "goodput.jsonl"

# What the wall time is divided into; the seconds of all of them add up to it.
STEP = "step"  # the devices compute steps that count
START, COMPILE, INPUT = "start", "compile", "input"
CHECKPOINT, EVALUATE, OTHER = "checkpoint", "evaluate", "other"  # other: the loop itself, and export
LOST, DOWN = "lost", "down"  # steps done again after a crash; from the last record to the start that followed
PARTS = (STEP, START, COMPILE, INPUT, CHECKPOINT, EVALUATE, OTHER, LOST, DOWN)

_JOIN_SECONDS = 5.0


class Goodput:
    """The account of one attempt at a run; `GoodputLog` adds up the attempts.

    Args:
      began: when the attempt began, by `now`; the time since then was start-up.
      now: seconds since 1970, replaced in tests.

    Attributes:
      steps: how many the devices have finished.
      progress: when something was last begun or finished.
    """

    def __init__(self, began: float | None = None, now=time.time):
        self.now = now
        self.began = now() if began is None else began
        self.steps, self.progress = 0, self.began
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._settled = self.began  # everything before is in _seconds
        self._changes = collections.deque([(self.began, START)])  # of the main thread's activity since then
        self._dispatched: dict[int, float] = {}

    @property
    def activity(self) -> str:
        """What the main thread does."""
        return self._changes[-1][1]

    @property
    def seconds_per_step(self) -> float:
        """Mean of the finished steps; 0 before the first."""
        with self._lock:
            return self._seconds[STEP] / max(self.steps, 1)

    def turn_to(self, activity: str) -> None:
        """The main thread begins with something else."""
        with self._lock:
            self.progress = self.now()
            self._changes.append((self.progress, activity))

    @contextlib.contextmanager
    def during(self, activity: str) -> Iterator[None]:
        """The main thread does something else for a while."""
        before = self.activity
        self.turn_to(activity)
        try:
            yield
        finally:
            self.turn_to(before)

    def compiled(self, seconds: float) -> None:
        """The main thread has spent its last so many seconds on compiling."""
        with self._lock:
            now, (since, activity) = self.now(), self._changes[-1]
            self._changes.append((max(now - seconds, since), COMPILE))
            self._changes.append((now, activity))

    def dispatched(self, step: int) -> None:
        """The devices are about to get `step`."""
        with self._lock:
            self._dispatched[step] = self.now()

    def finished(self, step: int) -> None:
        """The devices have finished `step`; called in the order of the steps."""
        with self._lock:
            now = self.progress = self.now()
            self._add(self._seconds, self._dispatched.pop(step), now)
            self.steps += 1
            self._settled = now
            while len(self._changes) > 1 and self._changes[1][0] <= now:
                self._changes.popleft()

    def seconds(self) -> dict[str, float]:
        """Seconds of each part up to now."""
        with self._lock:
            seconds, now = dict(self._seconds), self.now()
            self._add(seconds, min(self._dispatched.values(), default=now), now)
            return seconds

    def _add(self, seconds: dict[str, float], busy_from: float, until: float) -> None:
        """Adds the time since `_settled`: from `busy_from` to `until` the devices compute a step."""
        busy_from = max(busy_from, self._settled)
        seconds[STEP] += max(until - busy_from, 0.0)
        ends = [time for time, _ in self._changes][1:] + [until]
        for (start, activity), end in zip(self._changes, ends, strict=True):
            seconds[activity] += max(min(end, busy_from) - max(start, self._settled), 0.0)


class StepWatch:
    """Tells the account when the devices have finished a step, in a thread that does nothing else."""

    def __init__(self, goodput: Goodput):
        self._goodput = goodput
        self._steps: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="step watch", daemon=True)
        self._thread.start()

    def add(self, step: int, outputs: Any) -> None:
        """Takes the outputs of a step that was dispatched."""
        self._steps.put((step, outputs))

    def _watch(self) -> None:
        while (item := self._steps.get()) is not None:
            try:
                jax.block_until_ready(item[1])
            except Exception:  # the main thread meets the same error and deals with it
                return
            self._goodput.finished(item[0])

    def close(self) -> None:
        """Waits for the steps so far, though not for devices that hang."""
        self._steps.put(None)
        self._thread.join(_JOIN_SECONDS)


class GoodputLog:
    """The account of all attempts at a run, kept as JSON lines: `time`, `step`, `done`, `seconds` of each part so far.

    Lines are only ever added. Steps that a new attempt does again are moved from `step` to `lost`: the seconds between
    the last line and the newest one that is no further than where the attempt starts.

    Args:
      path: of the file; None keeps none, on processes that do not write.
      goodput: of this attempt.
      first: the step that it goes on from.
    """

    def __init__(self, path: Path | None, goodput: Goodput, first: int):
        self._goodput = goodput
        self._before = carried(read_json_lines(path) if path else [], first, goodput.began)
        self._file = JsonLinesFile(path) if path else None

    def totals(self) -> dict[str, float]:
        """Seconds of each part over all attempts."""
        now = self._goodput.seconds()
        return {part: self._before[part] + now[part] for part in PARTS}

    def shares(self) -> dict[str, float]:
        """`goodput`, the share of the wall time in steps that count, and `goodput/<part>`, that of all other parts."""
        totals = self.totals()
        whole = sum(totals.values()) or 1.0
        named = {f"goodput/{part}": totals[part] / whole for part in PARTS if part != STEP}
        return {"goodput": totals[STEP] / whole, **named}

    def write(self, step: int, done: bool = False) -> None:
        """Adds a line.

        Args:
          step: the newest that has finished.
          done: the run is complete; the time until somebody starts it again is not counted.

        Raises:
          OSError: the disk is full, for example.
        """
        if self._file:
            parts = {part: round(seconds, 6) for part, seconds in self.totals().items()}
            self._file.add({"time": self._goodput.now(), "step": step, "done": done, "seconds": parts})

    def close(self) -> None:
        """Gives the file back."""
        if self._file:
            self._file.close()

    def describe(self) -> str:
        """`goodput 81.0 % of 2:03:04 in steps; compile 9.1 %, ...`, the largest first."""
        shares, whole = self.shares(), sum(self.totals().values())
        rest = sorted(((share, name.partition("/")[2]) for name, share in shares.items() if "/" in name), reverse=True)
        shown = ", ".join(f"{name} {share:.1%}" for share, name in rest if share >= 0.0005)
        return f"goodput {shares['goodput']:.1%} of {duration(whole)} in steps" + (f"; {shown}" if shown else "")


def carried(lines: Sequence[Mapping[str, Any]], first: int, began: float) -> dict[str, float]:
    """Seconds of each part before an attempt.

    Args:
      lines: of all attempts before.
      first: the step that the attempt goes on from.
      began: when.
    """
    if not lines:
        return dict.fromkeys(PARTS, 0.0)
    last = lines[-1]
    before = {part: last["seconds"].get(part, 0.0) for part in PARTS}
    kept = next((line["seconds"][STEP] for line in reversed(lines) if line["step"] <= first), 0.0)
    again = max(before[STEP] - kept, 0.0)
    before[STEP] -= again
    before[LOST] += again
    if not last["done"]:
        before[DOWN] += max(began - last["time"], 0.0)
    return before
