"""Random access to TFRecord files: where each record lies, and reading some of them."""

import functools
import os
import struct
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from vit_jax.errors import UserError

_HEADER, _FOOTER = 12, 4  # length and its checksum before the record, the record's checksum after it
OPEN_FILES = 256  # at once in each split: processes are often limited to 1,024


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
                raise UserError(f"{path} cannot be read ({error.strerror}): prepare the data set again") from None
            self.size = os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`."""
        if self._remote is None:
            return os.pread(self._fd, length, offset)
        with self._lock:
            self._remote.seek(offset)
            return self._remote.read(length)

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            os.close(self._fd)


def record_offsets(file: RandomAccessFile, path: str) -> np.ndarray:
    """Byte ranges of all records, int64 (records, 2) of (offset, length); only headers are read.

    Raises:
      UserError: the file ends inside a record.
    """
    ranges, position = [], 0
    while position < file.size:
        header = file.read(position, _HEADER)
        length = struct.unpack("<Q", header[:8])[0] if len(header) == _HEADER else file.size
        end = position + _HEADER + length + _FOOTER
        if end > file.size:
            raise UserError(f"{path} is truncated at byte {file.size} of at least {end}: prepare the data set again")
        ranges.append((position + _HEADER, length))
        position = end
    return np.array(ranges, np.int64).reshape(-1, 2)


class TFRecords:
    """Records of several files behind one index.

    Args:
      parts: (path, skip, take) for each file in order.
    """

    def __init__(self, parts: Sequence[tuple[str, int, int]]):
        self._paths = paths = [path for path, _, _ in parts]
        self._file = functools.lru_cache(OPEN_FILES)(lambda number: RandomAccessFile(paths[number]))
        ranges = []
        for number, (path, skip, take) in enumerate(parts):
            found = record_offsets(self._file(number), path)[skip : skip + take]
            if len(found) != take:
                raise UserError(f"{path} holds fewer records than its data set says: prepare the data set again")
            ranges.append(np.concatenate([np.full((take, 1), number), found], axis=1))
        self._ranges = np.concatenate(ranges) if ranges else np.zeros((0, 3), np.int64)

    def __len__(self) -> int:
        return len(self._ranges)

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records with these indices."""
        return [self._file(int(n)).read(int(offset), int(length)) for n, offset, length in self._ranges[indices]]

    def describe(self, index: int) -> str:
        """The file and the byte at which a record starts."""
        number, offset, _ = self._ranges[index]
        return f"{self._paths[number]}, byte {offset}"
