"""The output of a process: shown with its name in front, kept in a file, and its last lines remembered."""

import collections
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

LAST_LINES = 20


class Stream:
    """Reads the standard output of a process in a thread of its own.

    Args:
      process: started with `stdout=PIPE` and `text=True`.
      name: written in brackets in front of each line; empty shows the lines as they are.
      log: a file that the lines are appended to as well.
      shown: sees each line first, and says whether it is shown.
    """

    def __init__(
        self,
        process: subprocess.Popen,
        name: str = "",
        log: Path | None = None,
        shown: Callable[[str], bool] = lambda line: True,
    ):
        self.last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self._process, self._prefix = process, f"[{name}] " if name else ""
        self._log: TextIO | None = log.open("a", errors="replace") if log else None
        self._shown = shown
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                if self._shown(line):
                    self._take(line)
        if self._log:
            self._log.close()

    def _take(self, line: str) -> None:
        self.last.append(line)
        print(f"{self._prefix}{line}", end="" if line.endswith("\n") else "\n", flush=True)
        if self._log:
            self._log.write(line)
            self._log.flush()

    def join(self) -> None:
        """Waits until the process has closed its output."""
        self._thread.join()
