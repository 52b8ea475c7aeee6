"""Being asked to stop: SIGTERM and Ctrl-C end a run after the step under way, at the same step on all processes."""

import os
import signal
import types
from typing import Self

from vit_jax import parallel


class StopSignal:
    """A context in which SIGTERM and SIGINT set a flag; a second SIGINT interrupts at once.

    In a distributed job JAX's preemption service watches SIGTERM and makes all processes agree on a step; SIGINT is
    passed on to it.

    Args:
      distributed: whether `jax.distributed` is initialised.
    """

    def __init__(self, distributed: bool):
        self._distributed = distributed
        self._requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        signals = (signal.SIGINT,) if self._distributed else (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._handle) for number in signals}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self._requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested = True
        if self._distributed:
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Whether to stop after `step`; the same answer on every process."""
        return parallel.preempted_at(step) if self._distributed else self._requested
