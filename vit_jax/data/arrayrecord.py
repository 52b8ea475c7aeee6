"""Random access to ArrayRecord files, which have an index of their own."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_jax.data.cache import digest
from vit_jax.data.tfrecord import Part, Parts, stamps
from vit_jax.errors import UserError

# No read-ahead and no threads of its own: reads are random, and the callers are threads.
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 32_768
_INDEX_BYTES = 8  # a record in an open file, at most: measured 4 to 8 on records of 100 B to 10 kB


class ArrayRecords:
    """Records of several files, numbered through.

    A file is opened, which reads its index and takes a millisecond, when a record of it is asked for, and stays open:
    as many as half of the files that the process may open.

    Args:
      parts: what is read, in this order.

    Raises:
      UserError: the package `array_record` or a file is missing.

    Attributes:
      name: changes when the files or the parts do.
    """

    def __init__(self, parts: Sequence[Part]):
        try:
            from array_record.python.array_record_module import ArrayRecordReader
        except ImportError as error:
            fix = "pip install array_record, or prepare the data set as tfrecord in another data_dir"
            raise UserError(f"ArrayRecord files need the package array_record ({error}): {fix}") from None
        import resource  # exists wherever array_record does

        self._parts, self._paths = Parts(parts), [part.path for part in parts]
        self._limit = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._open = functools.lru_cache(self._limit)(functools.partial(_reader, ArrayRecordReader))
        self.name = digest(list(map(tuple, parts)), stamps(self._paths))

    def __len__(self) -> int:
        return len(self._parts)

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records with these indices; a damaged one is b"" and a warning.

        Raises:
          UserError: a file is damaged as a whole.
        """
        part, record = self._parts.locate(indices)
        found: list[bytes] = [b""] * len(part)
        order = np.argsort(part, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(part[order])) + 1) if len(order) else []:
            records = _read(self._open(self._paths[part[rows[0]]]), self._paths[part[rows[0]]], record[rows].tolist())
            for row, data in zip(rows.tolist(), records, strict=True):
                found[row] = data
        return found

    def describe(self, index: int) -> str:
        """The file and the number of the record in it."""
        part, record = self._parts.locate(np.array([index]))
        return f"{self._paths[part[0]]}, record {record[0]}"

    def memory_bytes(self) -> int:
        """Of host memory that the indices and buffers of the open files hold, at most."""
        files = min(len(set(self._paths)), self._limit)
        share = files / max(1, len(set(self._paths)))
        return int(len(self) * share) * _INDEX_BYTES + files * _BUFFER


def _reader(reader_class: Any, path: str) -> Any:
    reader = reader_class(path, options=_OPTIONS, file_reader_buffer_size=_BUFFER)
    if not reader.ok():
        raise UserError(f"{path} is no ArrayRecord file or cannot be read: prepare the data set again")
    return reader


def _read(reader: Any, path: str, records: list[int]) -> list[bytes]:
    """All at once, which is fast, or one by one where one of them is damaged."""
    try:
        return reader.read(records)
    except RuntimeError as error:
        if len(records) > 1:
            return [_read(reader, path, [record])[0] for record in records]
        logging.warning("%s, record %d cannot be read (%s)", path, records[0], " ".join(str(error).split())[:120])
        return [b""]
