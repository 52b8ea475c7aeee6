"""Random access to TFRecord files against TensorFlow's own writer and sequential reader."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vit_jax.data import tfrecord
from vit_jax.data.tfrecord import TFRecords
from vit_jax.errors import UserError

pytestmark = pytest.mark.needs_tf

RECORDS = [b"", b"a", b"longer record" * 50, b"\0\0\0", bytes(range(256)), b"last"]


def write(path: Path, records: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "part.tfrecord", RECORDS)


@pytest.mark.parametrize("prefix", ["", "file://"])  # the second goes through TensorFlow's file systems
def test_random_access_equals_sequential_reading(path, prefix):
    records = TFRecords([(prefix + path, 0, len(RECORDS))])
    sequential = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    order = np.array([5, 0, 3, 3, 2, 1, 4])
    assert len(records) == len(sequential)
    assert records.read(order) == [sequential[i] for i in order]


def test_parts_with_skip_and_take_follow_each_other(path, tmp_path):
    other = write(tmp_path / "other.tfrecord", [b"x", b"y", b"z"])
    records = TFRecords([(path, 4, 2), (other, 1, 1), (other, 0, 0), (path, 0, 2)])
    assert records.read(np.arange(len(records))) == [*RECORDS[4:6], b"y", *RECORDS[:2]]


def test_no_parts_are_no_records():
    assert len(TFRecords([])) == 0


def test_a_file_cut_anywhere_is_an_error_that_names_it(path):
    whole = Path(path).read_bytes()
    for length in (len(whole) - 1, len(whole) - 4, len(whole) - 9, 20, 16 + 11, 5):
        Path(path).write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated") as error:
            TFRecords([(path, 0, len(RECORDS))])
        assert path in str(error.value)


def test_a_file_that_lost_whole_records_is_an_error_that_names_it(path):
    write(Path(path), RECORDS[:-1])
    with pytest.raises(UserError, match="holds fewer records") as error:
        TFRecords([(path, 0, len(RECORDS))])
    assert path in str(error.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match=r"gone\.tfrecord cannot be read \(No such file"):
        TFRecords([(str(tmp_path / "gone.tfrecord"), 0, 1)])


@pytest.fixture
def many_parts(tmp_path):
    return [(write(tmp_path / f"{n}.tfrecord", [b"%d-%d" % (n, i) for i in range(3)]), 0, 3) for n in range(10)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files where Linux lists them")
def test_few_files_are_open_at_once_and_none_afterwards(many_parts, monkeypatch):
    def ours() -> int:
        gc.collect()
        links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link).endswith(".tfrecord") for link in links if os.path.islink(link))

    monkeypatch.setattr(tfrecord, "OPEN_FILES", 4)
    records = TFRecords(many_parts)
    assert len(records.read(np.arange(30))) == 30
    assert ours() == 4
    del records
    assert ours() == 0


def test_threads_read_what_one_reads(many_parts, monkeypatch):
    monkeypatch.setattr(tfrecord, "OPEN_FILES", 2)  # files are closed and opened again while others read
    records = TFRecords(many_parts)
    orders = [np.random.default_rng(n).permutation(30) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(records.read, orders))
    assert found == [[b"%d-%d" % divmod(int(i), 3) for i in order] for order in orders]
