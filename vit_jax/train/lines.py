"""JSON lines that stay whole when the process is killed or the disk is full."""

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JsonLinesFile:
    """A file that objects are added to, one a line; half a line at its end, of a killed process, is dropped.

    Args:
      path: made if missing.
    """

    def __init__(self, path: Path):
        self._file = open(path, "ab+", buffering=0)  # noqa: SIM115  open for the whole run
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)

    def add(self, record: Mapping[str, Any]) -> None:
        """Writes a line.

        Raises:
          OSError: it could not be written; nothing of it is left.
        """
        data = (json.dumps(record) + "\n").encode()
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.truncate(size)
            raise

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All objects of a file, in order; none if there is no file. Half lines are left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
