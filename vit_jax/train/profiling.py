"""A profiler trace of some steps: the configured ones, or the next five after SIGUSR1."""

import signal
from pathlib import Path

import jax

STEPS_ON_SIGNAL = 5


def traces(workdir: Path, process: int) -> Path:
    """Where a process's traces go."""
    return workdir / "profile" / f"process_{process}"


class Profiler:
    """Starts and stops `jax.profiler` traces around steps.

    Args:
      directory: traces go to `<directory>/plugins/profile/<time>/`, where TensorBoard finds them.
      steps: (first, last) steps to trace, or ().
    """

    def __init__(self, directory: Path, steps: tuple[int, ...]):
        self._directory = directory
        self._first, self._last = steps or (-1, -1)
        self._running = False
        self._asked = False
        self._before = signal.signal(signal.SIGUSR1, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def before_step(self, step: int) -> None:
        """Starts a trace if one is due."""
        if self._asked and not self._running:
            self._asked, self._first, self._last = False, step, step + STEPS_ON_SIGNAL - 1
        if self._first <= step <= self._last and not self._running:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after_step(self, step: int, outputs: object) -> None:
        """Ends the trace after its last step; waits for the device first."""
        if self._running and step >= self._last:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Ends a trace that is still running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False

    def release(self) -> None:
        """Ends a running trace and gives the signal back."""
        self.close()
        signal.signal(signal.SIGUSR1, self._before)
