"""Several jobs side by side, each looked after by a launcher of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from vit_jax.errors import EXIT_RESUMABLE
from vit_jax.launch import restart
from vit_jax.launch.stream import Stream

POLL_SECONDS = 0.2


def run_all(commands: Mapping[str, Sequence[str]], at_once: int) -> dict[str, int]:
    """Runs verbs of ours to their ends; their output has their names in front.

    Ctrl-C and SIGTERM are passed on to those that run, and no others are started.

    Args:
      commands: {name: verb and flags}.
      at_once: how many run at a time.

    Returns:
      {name: exit status}; 42 for those that were not started.
    """
    jobs = _Jobs()
    before = {number: signal.signal(number, jobs.pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        waiting = dict(commands)
        while (waiting and not jobs.stopped) or jobs.running:
            while waiting and len(jobs.running) < at_once and not jobs.stopped:
                name = next(iter(waiting))
                jobs.start(name, waiting.pop(name))
            time.sleep(POLL_SECONDS)
            jobs.look()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return {name: jobs.ended.get(name, EXIT_RESUMABLE) for name in commands}


class _Jobs:
    """The launchers that run, and how the others ended."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[subprocess.Popen, Stream]] = {}
        self.ended: dict[str, int] = {}
        self.stopped = False

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Starts one."""
        process = subprocess.Popen(
            [sys.executable, "-m", "vit_jax", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # signals reach it through us, once
        )
        self.running[name] = process, Stream(process, name)

    def look(self) -> None:
        """Takes leave of those that have ended."""
        for name, (process, stream) in list(self.running.items()):
            if process.poll() is not None:
                stream.join()
                self.ended[name] = restart.shell_status(process.returncode)
                restart.say(f"{name} ended with {restart.explain(self.ended[name])}")
                del self.running[name]

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        self.stopped = True
        for process, _ in self.running.values():
            if process.poll() is None:
                process.send_signal(number)
