"""Integers that take long to find and never change, kept on disk: where records lie, which examples were chosen."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

# (index of the first value, values); pieces may come in any order and must fill the whole array.
Pieces = Iterator[tuple[int, np.ndarray]]


def cache_dir() -> Path:
    """Where this machine keeps them: $VIT_JAX_CACHE, else vit_jax in $XDG_CACHE_HOME or ~/.cache.

    A folder that several machines share works: each file appears whole or not at all.
    """
    own = os.environ.get("VIT_JAX_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vit_jax"


def digest(*words: object) -> str:
    """A name for what is computed from these words, which must tell everything that it depends on."""
    return hashlib.sha256(repr(words).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def cached(name: str, size: int, pieces: Callable[[], Pieces]) -> np.ndarray:
    """The int64 array (size,) with this name: mapped from its file, which is written first where there is none.

    Mapped pages belong to the system: processes share them, and it drops them when memory is short. Where the cache
    cannot be written, a warning says so and the array is held in memory.
    """
    path = cache_dir() / f"{name}.i64"
    if size and not _holds(path, size):
        try:
            _write(path, pieces)
        except OSError as error:
            cost = f"{size * 8 / 2**20:,.1f} MiB are held in memory instead and computed again by the next run"
            logging.warning("%s cannot be written (%s): %s; set VIT_JAX_CACHE", path, error.strerror, cost)
            return _filled(np.empty(size, np.int64), pieces)
    if not size:
        return np.empty(0, np.int64)
    return np.asarray(np.memmap(path, "<i8", "r", shape=(size,)))  # plain arrays are indexed faster


def held_bytes(array: np.ndarray) -> int:
    """Bytes of memory that an array of `cached` holds itself: none where it is mapped."""
    return 0 if isinstance(array.base, np.memmap) else array.nbytes


def _holds(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size * 8
    except OSError:
        return False


def _filled(array: np.ndarray, pieces: Callable[[], Pieces]) -> np.ndarray:
    for start, values in pieces():
        array[start : start + len(values)] = values
    return array


def _write(path: Path, pieces: Callable[[], Pieces]) -> None:
    """Writes beside and renames, so that several processes may do so at once and none sees a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for start, values in pieces():
                file.seek(start * 8)
                file.write(values.astype("<i8").tobytes())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
