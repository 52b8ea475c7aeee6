"""Compiling the step: how long it takes, and what the program needs."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax

from vit_jax.train.goodput import COMPILE, Goodput

_COMPILED = "/jax/core/compile/backend_compile_duration"
_FOUND = "/jax/compilation_cache/cache_hits"


class Compilations:
    """What JAX says about compiling on the thread that made this.

    Attributes:
      found: programs that lay in the compilation cache.
    """

    def __init__(self, goodput: Goodput):
        self._goodput, self._thread = goodput, threading.get_ident()
        self.found = 0

    def took(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Listener of durations."""
        if event == _COMPILED and threading.get_ident() == self._thread:
            self._goodput.compiled(duration_secs)

    def happened(self, event: str, **_: str | int) -> None:
        """Listener of events."""
        self.found += event == _FOUND


@contextlib.contextmanager
def compilations(goodput: Goodput) -> Iterator[Compilations]:
    """Accounts for the time that goes into compiling, wherever it happens."""
    heard = Compilations(goodput)
    jax.monitoring.register_event_duration_secs_listener(heard.took)
    jax.monitoring.register_event_listener(heard.happened)
    try:
        yield heard
    finally:
        jax.monitoring.unregister_event_duration_listener(heard.took)
        jax.monitoring.unregister_event_listener(heard.happened)


def compile_step(step: Any, arguments: tuple, goodput: Goodput, heard: Compilations) -> tuple[Any, str]:
    """Compiles a jitted function for its first arguments.

    Returns:
      The program, and a line about it: time, and bytes per device (after XLA's buffer assignment).
    """
    found, began = heard.found, goodput.now()
    with goodput.during(COMPILE):
        program = step.lower(*arguments).compile()
    cached = " (from the compilation cache)" if heard.found > found else ""
    return program, f"compiled  in {goodput.now() - began:.1f} s{cached}{_memory(program)}"


def _memory(program: Any) -> str:
    """Nothing where the backend does not tell."""
    memory = program.memory_analysis()
    if memory is None:
        return ""
    held, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    parts = (("state and batch", held), ("temporaries", temporary), ("results", new))
    shown = ", ".join(f"{name} {size / 2**20:,.1f}" for name, size in parts)
    return f", {(held + temporary + new) / 2**20:,.1f} MiB per device ({shown})"
