"""A file appears whole or not at all."""

import os

import pytest

from vit_jax.checkpoint.files import atomically


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_written_or_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"old", b"newer"):
        atomically(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
        assert names(tmp_path) == {"a.bin"}


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"old"
        assert path.parent == tmp_path
        (other,) = names(tmp_path) - {"a.bin"}
        assert other.startswith(".")  # and so no reader takes it for a file of weights
        file.write(b" and half")

    atomically(path, write)
    assert path.read_bytes() == b"half and half"


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("not writable"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_whatever_stops_the_writing_leaves_things_as_they_were(tmp_path, error, old):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        atomically(path, write)
    assert names(tmp_path) == ({"a.bin"} if old is not None else set())
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        atomically(tmp_path / "a.bin", lambda file: file.write(b"x"))
        (tmp_path / "plain").write_bytes(b"x")
        assert os.umask(umask) == umask  # it was not left changed
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes["a.bin"] == modes["plain"] == 0o666 & ~umask


def test_a_folder_that_is_not_there_is_the_callers_business(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomically(tmp_path / "nowhere" / "a.bin", lambda file: None)
    assert names(tmp_path) == set()
