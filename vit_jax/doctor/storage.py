"""The folder of a run: whether all hosts share it, how much room it has, how fast it is."""

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path

from vit_jax import parallel
from vit_jax.doctor.findings import Finding
from vit_jax.errors import reason

BYTES = 2**26  # that each process writes
SLOW = 10 * 2**20  # bytes/s; a state of ViT-L/16 (3.4 GiB) then takes six minutes
_TIGHT = 2**30
_CHECK = "storage"


def look_at_storage(workdir: Path) -> Finding:
    """Writes a file, reads it back, looks for those of the other processes, and removes it. All processes call this."""
    number = parallel.from_main(secrets.randbelow(2**31))
    made, own = _make(workdir), _name(workdir, number, parallel.process_index())
    try:
        finding = _write_and_read(own)
        parallel.barrier("doctor: written")
        others = [i for i in range(parallel.process_count()) if not _name(workdir, number, i).exists()]
        parallel.barrier("doctor: seen")
    finally:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)
            if made:
                workdir.rmdir()
    if finding.ok and others:
        fix = f"{workdir} does not show what process {others[0]} wrote there: put it on a disk that all hosts share"
        return Finding(_CHECK, finding.found, fix, finding.numbers)
    return finding


def _name(workdir: Path, number: int, process: int) -> Path:
    return workdir / f".vit_jax_doctor_{number}_{process}"


def _make(workdir: Path) -> bool:
    """Whether the folder had to be made; whether it can be written shows later."""
    if workdir.exists():
        return False
    with contextlib.suppress(OSError):
        workdir.mkdir(parents=True, exist_ok=True)
        return True
    return False


def _write_and_read(path: Path) -> Finding:
    data = os.urandom(BYTES)  # nothing that a file system could compress
    try:
        written = _write(path, data)
        same, read = _read(path, data)
    except OSError as error:
        return Finding(_CHECK, "failed", f"{path.parent} cannot be written and read: {reason(error)}")
    free = shutil.disk_usage(path.parent).free
    rates = {"write_bytes_per_second": BYTES / written, "read_bytes_per_second": BYTES / read}
    found = f"{path.parent}: write {BYTES / written / 2**20:,.0f} MiB/s, read {BYTES / read / 2**20:,.0f} MiB/s"
    return Finding(
        _CHECK,
        f"{found}, {free / 2**30:,.1f} GiB free",
        _complaint(path.parent, same, BYTES / written, BYTES / read, free),
        {**rates, "free_bytes": free},
    )


def _complaint(folder: Path, same: bool, write_rate: float, read_rate: float, free: int) -> str:
    if not same:
        return f"{folder} gives back other bytes than were written there: use another disk"
    if min(write_rate, read_rate) < SLOW:
        return f"{folder} is slow: use a faster disk, or save less often (config.checkpoint.every)"
    return f"{folder} has little room: make more, or keep fewer saves (config.checkpoint)" if free < _TIGHT else ""


def _write(path: Path, data: bytes) -> float:
    """Seconds until the bytes are on the disk."""
    began = time.perf_counter()
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


def _read(path: Path, data: bytes) -> tuple[bool, float]:
    """(whether these bytes are read back, seconds), from the disk where the system lets go of its copy in memory."""
    with open(path, "rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        found = file.read()
        return found == data, time.perf_counter() - began
