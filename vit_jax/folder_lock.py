"""One process at a time works in a folder: a lock that the death of its holder opens, on one host or several.

The kernel holds it (`flock`), so it ends with the process, however that ends. File systems that several hosts share do
not all pass such locks on to the others; so the holder also writes its name into the file and renews the file's time,
and a lock with another host's name counts as long as that is fresh.
"""

import dataclasses
import fcntl
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

LOCK_FILE = "lock"
RENEW_SECONDS = 30.0
STALE_SECONDS = 300.0  # after so long without renewal, a holder on another host is taken for dead
_TRIES, _BETWEEN_SECONDS = 3, 0.05  # whoever only looks holds the lock for a moment, too


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
      host: its machine.
      pid: its process there.
    """

    host: str
    pid: int

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this host."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class FolderLock:
    """The lock of a folder; `acquire` takes it, `release` or the end of the process gives it back.

    Args:
      folder: made when the lock is taken.
      name: of the file in it, which stays there.
    """

    def __init__(self, folder: Path, name: str = LOCK_FILE):
        self._folder, self._path = folder, folder / name
        self._file: int | None = None
        self._ended = threading.Event()

    def acquire(self) -> bool:
        """Takes the lock if nobody has it.

        Raises:
          OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _locked(file, fcntl.LOCK_EX, _TRIES) or _elsewhere(self._folder, file):
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
        os.fsync(file)
        self._file, self._ended = file, threading.Event()
        threading.Thread(target=self._renew, args=(file, self._ended), daemon=True).start()
        return True

    def wait(self) -> None:
        """Takes the lock as soon as nobody has it."""
        while not self.acquire():
            time.sleep(2 * _BETWEEN_SECONDS)

    def release(self) -> None:
        """Gives the lock back; without it, nothing."""
        if self._file is not None:
            self._ended.set()
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> "FolderLock":
        self.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _renew(self, file: int, ended: threading.Event) -> None:
        while not ended.wait(RENEW_SECONDS):
            try:
                os.utime(self._path)
            except OSError:  # the folder is gone, or the network for a while
                continue


def lock_holder(folder: Path, name: str = LOCK_FILE) -> Holder | None:
    """Who holds the lock of a folder now; None for nobody."""
    try:
        file = os.open(folder / name, os.O_RDONLY)
    except OSError:
        return None
    try:
        if not _locked(file, fcntl.LOCK_SH, 1):
            return _read(file) or Holder("this host", 0)  # it is just being taken or given back
        return _elsewhere(folder, file)
    finally:
        os.close(file)


def read_holder(path: Path) -> Holder | None:
    """Who wrote its name into a lock file last and has not given the lock back, dead or alive."""
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def _locked(file: int, kind: int, tries: int) -> bool:
    """Whether we have the kernel's lock now."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(_BETWEEN_SECONDS)
        else:
            return True
    return False


def _elsewhere(folder: Path, file: int) -> Holder | None:
    """The living holder on another host, which the kernel may not know of; one of this host would have the lock."""
    found = _read(file)
    if found is None or found.is_here:
        return None
    return found if _now(folder) - os.fstat(file).st_mtime < STALE_SECONDS else None


def _read(file: int) -> Holder | None:
    return _parse(os.pread(file, 1000, 0))


def _parse(content: bytes) -> Holder | None:
    try:
        found = json.loads(content)
        return Holder(str(found["host"]), int(found["pid"]))
    except (ValueError, TypeError, KeyError):
        return None


def _now(folder: Path) -> float:
    """The time by the clock of the folder's file system, which other hosts' files are dated by."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".now-") as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # we may only read here
        return time.time()
