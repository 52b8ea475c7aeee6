"""Random access to ArrayRecord files against their own writer."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_jax.data.arrayrecord import ArrayRecords
from vit_jax.data.tfrecord import Part
from vit_jax.errors import UserError

pytestmark = pytest.mark.needs_tf
module = pytest.importorskip("array_record.python.array_record_module")


@pytest.fixture
def paths(tmp_path):
    found = [str(tmp_path / name) for name in ("a.array_record", "b.array_record")]
    for number, path in enumerate(found):
        writer = module.ArrayRecordWriter(path, "group_size:1,uncompressed")
        for i in range(5):
            writer.write(f"{number}-{i} ".encode() * 1000)
        writer.close()
    return found


def names(records: list[bytes]) -> list[str]:
    return [record.partition(b" ")[0].decode() for record in records]


def test_parts_are_read_at_random(paths):
    records = ArrayRecords([Part(paths[1], 3, 2), Part(paths[0], 0, 5), Part(paths[1], 0, 1)])
    expected = ["1-3", "1-4", "0-0", "0-1", "0-2", "0-3", "0-4", "1-0"]
    assert len(records) == 8
    order = [7, 0, 3, 3, 6, 1]
    assert names(records.read(np.array(order))) == [expected[i] for i in order]
    assert records.read(np.array([], np.int64)) == []
    assert records.describe(1) == f"{paths[1]}, record 4"


def test_a_damaged_record_is_an_empty_one_and_a_warning(paths, caplog):
    data = Path(paths[0]).read_bytes()
    place = data.index(b"0-2 ") + 100
    Path(paths[0]).write_bytes(data[:place] + b"\xff" * 50 + data[place + 50 :])
    records = ArrayRecords([Part(path, 0, 5) for path in paths])
    with caplog.at_level(logging.WARNING):
        found = records.read(np.array([1, 2, 3, 7]))
    assert names(found) == ["0-1", "", "0-3", "1-2"]
    assert f"{paths[0]}, record 2 cannot be read" in caplog.text


def test_a_file_that_is_none_or_missing_is_named(paths, tmp_path):
    (tmp_path / "text").write_text("no records" * 100)
    with pytest.raises(UserError, match="text is no ArrayRecord file"):
        ArrayRecords([Part(str(tmp_path / "text"), 0, 1)]).read(np.array([0]))
    with pytest.raises(UserError, match=r"gone cannot be read \(No such file"):
        ArrayRecords([Part(str(tmp_path / "gone"), 0, 1)])


def test_without_the_package_one_line_says_what_to_do(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(UserError, match="pip install array_record, or prepare the data set as tfrecord") as error:
        ArrayRecords([Part(paths[0], 0, 5)])
    assert "\n" not in str(error.value)


def test_its_name_tells_the_files_and_parts(paths):
    some = [ArrayRecords([Part(paths[0], 0, take)]).name for take in (5, 5, 4)]
    assert some[0] == some[1] != some[2]
