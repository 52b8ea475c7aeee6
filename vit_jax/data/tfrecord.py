"""Random access to TFRecord files: where each record lies, and reading some of them."""

import functools
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from vit_jax.data.cache import cached, digest, held_bytes
from vit_jax.errors import UserError

_HEADER, _FOOTER = 12, 4  # length and its checksum before the record, the record's checksum after it
_WINDOW = 4096  # bytes read at a time while looking for headers: a page, which costs no more than a header
_THREADS = 16  # that look for headers: they wait for the disk or the network
OPEN_FILES = 256  # at once in each split: processes are often limited to 1,024
CACHE_FROM = 65_536  # records: the index of fewer is made again in a second


class Shard(NamedTuple):
    """One file of a split and how many records it holds."""

    path: str
    records: int


class Part(NamedTuple):
    """Records `skip` to `skip + take - 1` of a file."""

    path: str
    skip: int
    take: int


class Parts:
    """The records of several parts of files, numbered through."""

    def __init__(self, parts: Sequence[Part]):
        self._skip = np.array([part.skip for part in parts], np.int64)
        self._ends = np.cumsum([part.take for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(number of the part, number of the record in its file) of these records."""
        part = np.searchsorted(self._ends, indices, side="right")
        before = np.where(part > 0, self._ends[part - 1], 0)
        return part, indices - before + self._skip[part]


class RandomAccessFile:
    """Reads byte ranges, from any thread: `pread` on local files, TensorFlow's file systems (gs://, ...) elsewhere."""

    def __init__(self, path: str):
        self._lock = threading.Lock()
        self._remote: Any = None
        if "://" in path:
            self._remote = tf.io.gfile.GFile(path, "rb")
            self.size = self._remote.size()
        else:
            try:
                self._fd = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise _unreadable(path, error) from None
            self.size = os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer at the end of the file."""
        if self._remote is None:
            return os.pread(self._fd, length, offset)
        with self._lock:
            self._remote.seek(offset)
            return self._remote.read(length)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # bound: at exit, `os` may be gone
        if getattr(self, "_fd", None) is not None:
            close(self._fd)


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error.strerror}): prepare the data set again")


def record_bounds(path: str) -> np.ndarray:
    """Where the records of a file end, int64 (records + 1,), with a 0 in front; only headers are read.

    Record i with its framing lies from the i-th number to the next.

    Raises:
      UserError: the file cannot be read or ends inside a record.
    """
    file = RandomAccessFile(path)
    bounds, position = [0], 0
    window, start = b"", 0
    while position < file.size:
        if position + _HEADER > start + len(window):
            window, start = file.read(position, _WINDOW), position
        header = window[position - start :][:8]
        length = struct.unpack("<Q", header)[0] if len(window) - (position - start) >= _HEADER else file.size
        position += _HEADER + length + _FOOTER
        if position > file.size:
            raise UserError(f"{path} is truncated at byte {file.size} of {position}: prepare the data set again")
        bounds.append(position)
    return np.array(bounds, np.int64)


def stamps(paths: Sequence[str]) -> list[tuple[int, int]]:
    """(size, time of the last change in nanoseconds) of each file.

    Raises:
      UserError: one is not there.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_stamp, paths))


def _stamp(path: str) -> tuple[int, int]:
    if "://" in path:
        found = tf.io.gfile.stat(path)
        return found.length, found.mtime_nsec
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    return status.st_size, status.st_mtime_ns


class Index:
    """Where the records of all files of a split lie.

    Eight bytes a record, made once by reading all headers, in parallel, and then kept on disk under the paths, sizes
    and times of the files, see `vit_jax.data.cache`. Opening it later costs one look at each file. For 300 million
    records the file has 2.4 GB; it is mapped, so that only pages that are read come into memory, and reading a record
    may cost reading a page of it first.

    Attributes:
      name: changes when the files do.
      first: {path: the row of `bounds` at which the records of a file begin}.
    """

    def __init__(self, shards: Sequence[Shard]):
        self._shards = shards
        rows = np.cumsum([0, *(shard.records + 1 for shard in shards)])
        self.first = {shard.path: int(row) for shard, row in zip(shards, rows[:-1], strict=True)}
        self.name = f"index-{digest(1, list(map(tuple, shards)), stamps([shard.path for shard in shards]))}"
        size = int(rows[-1])
        if size < CACHE_FROM:
            self._bounds = np.concatenate([np.empty(0, np.int64), *(values for _, values in self._pieces())])
        else:
            self._bounds = cached(self.name, size, self._pieces)

    def bounds(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(offset, length) in bytes of the records in these rows, without their framing."""
        start = self._bounds[rows]
        return start + _HEADER, self._bounds[rows + 1] - start - _HEADER - _FOOTER

    def memory_bytes(self) -> int:
        """Of host memory that it holds."""
        return held_bytes(self._bounds)

    def _pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                found = pool.map(record_bounds, [shard.path for shard in self._shards])
                for shard, bounds in zip(self._shards, found, strict=True):
                    if len(bounds) != shard.records + 1:
                        what = f"{shard.path} holds {len(bounds) - 1} records, its data set says {shard.records}"
                        raise UserError(f"{what}: prepare the data set again")
                    yield self.first[shard.path], bounds
            finally:
                pool.shutdown(cancel_futures=True)


class TFRecords:
    """Records of several files behind one index.

    Args:
      splits: all files of each split that `parts` take from, so that slices of one split share its index.
      parts: what is read, in this order.

    Attributes:
      name: changes when the files or the parts do.
    """

    def __init__(self, splits: Sequence[Sequence[Shard]], parts: Sequence[Part]):
        self._indices = [Index(shards) for shards in splits]
        owner = {path: number for number, index in enumerate(self._indices) for path in index.first}
        self._parts, self._paths = Parts(parts), [part.path for part in parts]
        self._owner = np.array([owner[path] for path in self._paths], np.int64)
        self._first = np.array([self._indices[owner[path]].first[path] for path in self._paths], np.int64)
        self._file = functools.lru_cache(OPEN_FILES)(RandomAccessFile)
        self.name = digest([index.name for index in self._indices], list(map(tuple, parts)))

    def __len__(self) -> int:
        return len(self._parts)

    def _ranges(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(number of the part, byte offset, length) of these records."""
        part, record = self._parts.locate(indices)
        offset, length = np.empty_like(record), np.empty_like(record)
        for number, index in enumerate(self._indices):
            mine = self._owner[part] == number
            offset[mine], length[mine] = index.bounds(self._first[part[mine]] + record[mine])
        return part, offset, length

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records with these indices.

        Raises:
          UserError: a file has become shorter since it was opened.
        """
        found = []
        for part, offset, length in zip(*(column.tolist() for column in self._ranges(indices)), strict=True):
            record = self._file(self._paths[part]).read(offset, length)
            if len(record) != length:
                raise UserError(f"{self._paths[part]} has become shorter: prepare the data set again")
            found.append(record)
        return found

    def describe(self, index: int) -> str:
        """The file and the byte at which a record starts."""
        part, offset, _ = (int(column[0]) for column in self._ranges(np.array([index])))
        return f"{self._paths[part]}, byte {offset}"

    def memory_bytes(self) -> int:
        """Of host memory that the index holds; nothing where it is mapped."""
        return sum(index.memory_bytes() for index in self._indices)
