"""JSON lines of which none is ever broken."""

import errno
import json
import resource
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from vit_jax.train.lines import JsonLinesFile, read_json_lines


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text())), st.integers(0, 50))
def test_what_a_killed_process_left_behind_does_no_harm(tmp_path_factory, records, cut):
    """Cut anywhere, the file goes on after its last whole line."""
    path = tmp_path_factory.mktemp("lines") / "file.jsonl"
    path.write_bytes("".join(json.dumps(record) + "\n" for record in records).encode())
    kept = path.read_bytes()[: max(path.stat().st_size - cut, 0)]
    path.write_bytes(kept)
    file = JsonLinesFile(path)
    file.add({"last": 1})
    file.close()
    whole = kept.count(b"\n")
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*records[:whole], {"last": 1}]


def test_reading_leaves_out_half_lines(tmp_path):
    path = tmp_path / "file.jsonl"
    assert read_json_lines(path) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]


FULL = """
import resource, signal, sys
from pathlib import Path
from vit_jax.train.lines import JsonLinesFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
file = JsonLinesFile(Path(sys.argv[1]))
for number in range(4):
    try:
        file.add({"number": number})
    except OSError as error:
        print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.add({"number": 9})
"""


def test_a_line_for_which_there_is_no_room_leaves_nothing(tmp_path):
    """The system lets a file grow to 25 bytes, which is a line and a half, and later further."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    path = tmp_path / "file.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {str(errno.EFBIG), str(errno.ENOSPC)}
    assert read_json_lines(path) == [{"number": 0}, {"number": 9}]
