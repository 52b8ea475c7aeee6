"""Random access to TFRecord files against TensorFlow's own writer and sequential reader."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vit_jax.data import tfrecord
from vit_jax.data.tfrecord import Part, Shard, TFRecords
from vit_jax.errors import UserError

pytestmark = pytest.mark.needs_tf

RECORDS = [b"", b"a", b"longer record" * 500, b"\0\0\0", bytes(range(256)), b"last"]


def write(path: Path, records: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def whole(path: str, records: int = len(RECORDS)) -> TFRecords:
    return TFRecords([[Shard(path, records)]], [Part(path, 0, records)])


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "part.tfrecord", RECORDS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Every index is kept in this folder."""
    monkeypatch.setattr(tfrecord, "CACHE_FROM", 0)
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("prefix", ["", "file://"])  # the second goes through TensorFlow's file systems
def test_random_access_equals_sequential_reading(path, prefix):
    records = whole(prefix + path)
    sequential = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    order = np.array([5, 0, 3, 3, 2, 1, 4])
    assert len(records) == len(sequential)
    assert records.read(order) == [sequential[i] for i in order]


@pytest.mark.parametrize("size", [0, 4068, 4069, 4084, 4085, 4096, 9000])  # around the 4,096 bytes read at once
def test_records_of_any_size_are_found(tmp_path, size):
    records = [b"a" * (size + i % 3) for i in range(20)]
    path = write(tmp_path / "sizes", records)
    assert whole(path, 20).read(np.arange(20)) == records


@pytest.fixture
def two_splits(path, tmp_path):
    """(splits, {path: contents}): one of two files and one of one."""
    contents = {path: RECORDS}
    for name in ("other", "third"):
        records = [f"{name} {i}".encode() for i in range(3)]
        contents[write(tmp_path / name, records)] = records
    first, second, third = (Shard(path, len(records)) for path, records in contents.items())
    return [[first, second], [third]], contents


def test_parts_with_skip_and_take_follow_each_other(two_splits):
    splits, contents = two_splits
    (first, second), (third,) = [[shard.path for shard in split] for split in splits]
    parts = [Part(third, 1, 2), Part(first, 4, 2), Part(second, 1, 1), Part(second, 0, 0), Part(first, 0, 2)]
    records = TFRecords(splits, parts)
    expected = [contents[p.path][i] for p in parts for i in range(p.skip, p.skip + p.take)]
    assert records.read(np.arange(len(records))) == expected
    assert records.read(np.array([6, 0])) == [expected[6], expected[0]]
    for number, record in enumerate(expected):
        file, _, byte = records.describe(number).partition(", byte ")
        assert Path(file).read_bytes()[int(byte) :].startswith(record)


def test_no_parts_are_no_records():
    assert len(TFRecords([], [])) == 0


def test_a_file_cut_anywhere_is_an_error_that_names_it(path):
    data = Path(path).read_bytes()
    for length in (len(data) - 1, len(data) - 4, len(data) - 9, 20, 16 + 11, 5):
        Path(path).write_bytes(data[:length])
        with pytest.raises(UserError, match="truncated") as error:
            whole(path)
        assert path in str(error.value)


@pytest.mark.parametrize("records", [RECORDS[:-1], [*RECORDS, b"more"]])
def test_a_file_with_another_number_of_records_is_an_error_that_names_it(path, records, cache):
    write(Path(path), records)
    with pytest.raises(UserError, match=f"holds {len(records)} records, its data set says 6") as error:
        whole(path)
    assert path in str(error.value)
    assert list(cache.iterdir()) == []  # nothing is left of the attempt


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match=r"gone\.tfrecord cannot be read \(No such file"):
        whole(str(tmp_path / "gone.tfrecord"), 1)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(path):
    records = whole(path)
    Path(path).write_bytes(Path(path).read_bytes()[:100])
    with pytest.raises(UserError, match="has become shorter"):
        records.read(np.array([5]))


# the index on disk


def headers_read(monkeypatch) -> list[str]:
    """Collects the files whose headers are read from now on."""
    found, read = [], tfrecord.record_bounds
    monkeypatch.setattr(tfrecord, "record_bounds", lambda path: found.append(path) or read(path))
    return found


def test_the_index_is_made_once_mapped_and_shared_by_slices_of_a_split(two_splits, cache, monkeypatch):
    splits, contents = two_splits
    found = headers_read(monkeypatch)
    parts = [Part(shard.path, 0, shard.records) for split in splits for shard in split]
    records = TFRecords(splits, parts)
    assert sorted(found) == sorted(contents)
    assert records.memory_bytes() == 0
    assert sorted(f.stat().st_size for f in cache.iterdir()) == [8 * 4, 8 * (7 + 4)]
    found.clear()
    again = TFRecords(splits[:1], [Part(parts[0].path, 2, 3)])
    assert again.read(np.arange(3)) == RECORDS[2:5]
    assert TFRecords(splits, parts).read(np.arange(12)) == [
        record for records in contents.values() for record in records
    ]
    assert found == []


def test_a_changed_file_gets_a_new_index(path, cache):
    assert whole(path).read(np.array([1])) == [b"a"]
    other = [b"xy", *RECORDS[1:]]
    write(Path(path), other)
    assert whole(path).read(np.arange(6)) == other
    same_size = [b"xyz", b"", *RECORDS[2:]]
    write(Path(path), same_size)
    os.utime(path, ns=(0, 123_456_789))
    assert whole(path).read(np.arange(6)) == same_size
    same_time = [b"longer than before", *RECORDS[1:]]
    write(Path(path), same_time)
    os.utime(path, ns=(0, 123_456_789))
    assert whole(path).read(np.arange(6)) == same_time


def test_a_broken_index_is_made_again(path, cache):
    whole(path)
    (file,) = cache.iterdir()
    file.write_bytes(b"short")
    assert whole(path).read(np.arange(6)) == RECORDS


def test_without_a_place_for_the_index_it_is_held_in_memory_with_a_warning(path, cache, caplog):
    cache.write_text("a file where the folder should be")
    records = whole(path)
    assert records.read(np.arange(6)) == RECORDS
    assert records.memory_bytes() == 7 * 8
    (message,) = caplog.messages
    assert "cannot be written" in message
    assert "VIT_JAX_CACHE" in message


def test_small_sets_are_not_cached(path, tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))
    assert whole(path).memory_bytes() == 7 * 8
    assert not (tmp_path / "cache").exists()


# open files


@pytest.fixture
def many(tmp_path):
    paths = [write(tmp_path / f"{n}.tfrecord", [b"%d-%d" % (n, i) for i in range(3)]) for n in range(10)]
    return [[Shard(path, 3) for path in paths]], [Part(path, 0, 3) for path in paths]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files where Linux lists them")
def test_few_files_are_open_at_once_and_none_afterwards(many, monkeypatch):
    def ours() -> int:
        gc.collect()
        links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link).endswith(".tfrecord") for link in links if os.path.islink(link))

    monkeypatch.setattr(tfrecord, "OPEN_FILES", 4)
    records = TFRecords(*many)
    assert len(records.read(np.arange(30))) == 30
    assert ours() == 4
    del records
    assert ours() == 0


def test_threads_read_what_one_reads(many, monkeypatch):
    monkeypatch.setattr(tfrecord, "OPEN_FILES", 2)  # files are closed and opened again while others read
    records = TFRecords(*many)
    orders = [np.random.default_rng(n).permutation(30) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(records.read, orders))
    assert found == [[b"%d-%d" % divmod(int(i), 3) for i in order] for order in orders]
