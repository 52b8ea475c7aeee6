"""Reading arrays from files that may be anything, damaged or hostile."""

import io
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.checkpoint.archives import INDEX, SINGLE, read_arrays, read_json
from vit_jax.errors import UserError

MIB = 2**20
TERA = 2**40

# Written by safetensors 0.8.0 for torch 2.13.0: save({"b/kernel": tensor([[1., 2.5, -3.]]), "a": tensor([.5, -2.],
# dtype=bfloat16), "n": tensor(7), "h": tensor([1.5], dtype=float16)}, {"format": "pt"}).
OFFICIAL = (
    b'\x08\x01\x00\x00\x00\x00\x00\x00{"__metadata__":{"format":"pt"},"n":{"dtype":"I64","shape":[],"data_offsets":'
    b'[0,8]},"b/kernel":{"dtype":"F32","shape":[1,3],"data_offsets":[8,20]},"a":{"dtype":"BF16","shape":[2],'
    b'"data_offsets":[20,24]},"h":{"dtype":"F16","shape":[1],"data_offsets":[24,26]}}      '
    b"\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80?\x00\x00 @\x00\x00@\xc0\x00?\x00\xc0\x00>"
)


def refusal(path: Path, read: Callable = read_arrays) -> str:
    """The message with which `path` is refused: one line that names it."""
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    assert repr(str(path))[1:-1] in message
    return message


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list, end: int, dtype: str = "F32", begin: int = 0) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(shape: object = (3,), descr: str = "<f4", data: bytes = bytes(12), version: int = 1) -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}}}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 * version, "little") + header + data


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes, str], Path]:
    def put(content: bytes, name: str = "weights") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return put


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Whoever asks for more than 48 MiB gets a MemoryError, which has a message of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 48 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# What is read.


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_keeps_names_order_shapes_dtypes_and_values(tmp_path: Path, save: Callable) -> None:
    rng = np.random.default_rng(0)
    wanted = {
        "cls": rng.normal(size=(1, 1, 5)).astype(np.float32),
        "a/b/kernel": np.asfortranarray(rng.normal(size=(300, 1000))),  # more than one chunk
        "half": rng.normal(size=3).astype(np.float16),
        "count": np.int64(3),
        "empty": np.zeros((0, 4), np.float32),
        "big_endian": np.arange(5, dtype=">f4"),
        "bytes": np.arange(7, dtype=np.uint8),
    }
    save(tmp_path / "w.npz", **wanted)
    found = read_arrays(tmp_path / "w.npz")
    assert list(found) == list(wanted)
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name], strict=name not in ("big_endian", "count"))
        assert array.dtype.isnative


def test_bfloat16_in_npz_comes_back_as_bfloat16(write: Callable) -> None:
    values = np.array([[0.5, -2.0, 3.0]], ml_dtypes.bfloat16)
    found = read_arrays(write(npz(x=values)))["x"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.astype(np.float32), [[0.5, -2.0, 3.0]])


@pytest.mark.parametrize("version", [1, 2])
def test_headers_as_python_2_wrote_them(write: Callable, version: int) -> None:
    member = npy((33,), data=np.arange(3, dtype=np.float32).tobytes(), version=version).replace(b"33,", b"3L,")
    np.testing.assert_array_equal(read_arrays(write(zipped({"a.npy": member})))["a"], np.arange(3, dtype=np.float32))


def test_a_file_of_the_official_safetensors_library(write: Callable) -> None:
    found = read_arrays(write(OFFICIAL))
    wanted = {
        "n": np.array(7, np.int64),
        "b/kernel": np.array([[1, 2.5, -3]], np.float32),
        "a": np.array([0.5, -2], ml_dtypes.bfloat16),
        "h": np.array([1.5], np.float16),
    }
    assert list(found) == list(wanted)
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name], strict=True)


def test_an_empty_array_may_share_its_place(write: Callable) -> None:
    found = read_arrays(write(safetensors({"b": entry([1], 4), "a": entry([0, 3], 0)}, bytes(4))))
    assert {name: array.shape for name, array in found.items()} == {"a": (0, 3), "b": (1,)}


@pytest.mark.parametrize("name", ["w", "w.bin", "w.safetensors", "w.npz"])
def test_the_content_decides_not_the_name(write: Callable, name: str) -> None:
    assert "a" in read_arrays(write(OFFICIAL, name))
    assert "x" in read_arrays(write(npz(x=np.ones(2)), name))


def test_home_is_expanded(write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(write(OFFICIAL).parent))
    assert "a" in read_arrays("~/weights")


def test_shards_are_joined(tmp_path: Path) -> None:
    (tmp_path / "one.safetensors").write_bytes(OFFICIAL)
    (tmp_path / "two.safetensors").write_bytes(safetensors({"c": entry([1], 4)}, np.float32(9).tobytes()))
    places = {**dict.fromkeys(("n", "b/kernel", "a", "h"), "one.safetensors"), "c": "two.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {"total_size": 30}, "weight_map": places}))
    for path in (tmp_path, tmp_path / INDEX):
        found = read_arrays(path)
        assert found.keys() == places.keys()
        assert found["c"] == 9


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_bytes(OFFICIAL)
    assert "a" in read_arrays(tmp_path)


# What is refused.


def test_nothing_there(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "w.npz")
    assert "neither model.safetensors nor" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refusal(tmp_path / "pipe")


def test_unreadable(write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(OFFICIAL)
    monkeypatch.setattr("builtins.open", denied)
    assert "Permission denied" in refusal(path)


PICKLE = "is a pickle, which could run any code when loaded: convert it to safetensors"


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"", "w.npz", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "w.npz", "is a git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "w.npz", "is a web page"),
        (b"<html><body>", "w.safetensors", "is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "w", "server's error message"),
        (pickle.dumps({"a": 1}), "w", PICKLE),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03", "w.npz", PICKLE),  # torch.save before 1.6
        (zipped({"archive/version": b"3", "archive/data.pkl": b""}), "w.npz", PICKLE),  # torch.save since
        (b"(dp0\n.", "w.pth", PICKLE),
        (b"\x89HDF\r\n\x1a\n", "w", "is an HDF5 file: convert it to safetensors"),
        (b"\x81\xa6params", "w.msgpack", "is a msgpack file of Flax: convert it to safetensors"),
        (b"\x00\x01", "w.ckpt", "is a checkpoint of TensorFlow or PyTorch Lightning: convert"),
        (npy(), "w.npy", "is one array without a name"),
        (b"\x1f\x8b\x08\x00", "w.npz", "is packed with gzip"),
        (b"hello", "w.npz", "is neither an npz archive nor a safetensors file"),
        (zipped({"readme.txt": b"hello"}), "w.npz", "is a zip file with 'readme.txt' in it"),
        (zipped({}), "w.npz", "holds no arrays"),
        (safetensors({"__metadata__": {"format": "pt"}}), "w", "holds no arrays"),
    ],
)
def test_other_things_are_named(write: Callable, content: bytes, name: str, says: str) -> None:
    assert says in refusal(write(content, name))


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"a": entry([2], 8)}, bytes(4), "8 bytes of arrays are declared, 4 are there"),
        ({"a": entry([1], 4)}, bytes(8), "4 bytes of arrays are declared, 8 are there"),
        ({"a": entry([1], 8)}, bytes(8), "the place of 'a' does not fit its shape (1,)"),
        ({"a": entry([1], 4), "b": entry([1], 12, begin=8)}, bytes(12), "the place of 'b'"),
        ({"a": entry([1], 4), "b": entry([1], 4)}, bytes(4), "the place of 'b'"),
        ({"a": entry([TERA, TERA], 4)}, bytes(4), "the place of 'a'"),
        ({"a": entry([0, 2**64], 0)}, b"", "lengths no array can have"),
        ({"a": entry([1] * 33, 4)}, bytes(4), "33 dimensions"),
        ({"a": entry([-1], 4)}, bytes(4), "are no sizes"),
        ({"a": entry([True], 4)}, bytes(4), "are no sizes"),
        ({"a": entry([1.0], 4)}, bytes(4), "are no sizes"),
        ({"a": entry([1], "4")}, bytes(4), "are no sizes"),
        ({"a": {"dtype": "F32", "shape": [1]}}, bytes(4), "no dtype, shape and data_offsets for 'a'"),
        ({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}, bytes(4), "no dtype, shape and data_offsets"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, bytes(4), "no dtype, shape and data_offset"),
        ({"a": 3}, b"", "no dtype, shape and data_offsets for 'a'"),
        ({"a": entry([4], 4, "BOOL")}, bytes(4), "holds 'a' as 'BOOL'"),
        ({"a": entry([4], 4, "F\n3")}, bytes(4), r"holds 'a' as 'F\n3'"),
        ({"a" * 99_999: entry([4], 4, "F" * 99_999)}, bytes(4), "holds 'aaaa"),
        ({"a": entry([4], 4, ["F32"])}, bytes(4), "holds 'a' as \"['F32']\""),
        ({"/etc/passwd": entry([1], 4)}, bytes(4), "names an array '/etc/passwd'"),
        ({"a/../b": entry([1], 4)}, bytes(4), "names an array 'a/../b'"),
        ({"a\nb": entry([1], 4)}, bytes(4), r"names an array 'a\nb'"),
        (b'{"a":%b,"a":%b}' % ((json.dumps(entry([1], 4)).encode(),) * 2), bytes(4), "the name 'a' occurs 2 times"),
        (b'{"a":', b"", "is truncated or damaged (JSONDecodeError"),
        (b"{" + b'"a":{' * 100_000, b"", "is truncated or damaged (RecursionError"),
        (b'{"a": %b}' % (b"9" * 5000), b"", "is truncated or damaged (ValueError"),
    ],
)
def test_safetensors_that_contradict_themselves(write: Callable, header: object, data: bytes, says: str) -> None:
    assert says in refusal(write(safetensors(header, data), "w.safetensors"))


def test_a_safetensors_header_must_be_an_object_and_fit(write: Callable) -> None:
    assert "a JSON object was expected, not list" in refusal(write(safetensors(b"[]"), "w.safetensors"))
    assert "more than 16777216" in refusal(write((TERA).to_bytes(8, "little") + b"{}", "w.safetensors"))
    assert "header of 99 bytes is declared in a file of 10" in refusal(write((99).to_bytes(8, "little") + b"{}"))


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (npy((4,)), "'a' declares shape (4,) of float32"),
        (npy((2,)), "'a' declares shape (2,) of float32"),
        (npy((TERA, TERA, TERA)), "'a' declares shape"),
        (npy((0, 2**64)), "lengths no array can have"),
        (npy((-3,)), "lengths no array can have"),
        (npy((1,) * 33), "33 dimensions"),
        (npy("x"), "no readable header"),
        (npy(descr="{" * 3000), "no readable header"),
        (npy(("-" * 3000 + "1",)), "no readable header"),
        (npy(version=3), "no readable header"),
        (npy()[:20], "no readable header"),
        (b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + bytes(9999), "header of at most 4096 bytes"),
        (b"", "no readable header"),
        (npy(descr="|O"), "holds pickled objects in 'a'"),
        (npy(descr="<c8"), "holds 'a' as 'complex64'"),
        (npy(descr="<U1"), "holds 'a' as '<U1'"),
        (npy(descr="|b1"), "holds 'a' as 'bool'"),
        (npy(descr="<f16"), "holds 'a' as 'float128'"),
        (npy(descr="(2,)i1"), "holds 'a' as \"('i1', (2,))\""),
        (npy(descr="|V4"), "holds 'a' as '|V4'"),
    ],
)
def test_arrays_in_npz_that_cannot_be(write: Callable, member: bytes, says: str) -> None:
    assert says in refusal(write(zipped({"a.npy": member})))


@pytest.mark.parametrize("name", ["/etc/a", "../a", "a/../b", "a//b", "", "..\\a", "a\nb"])
def test_names_that_lead_elsewhere(write: Callable, name: str) -> None:
    assert "names an array" in refusal(write(zipped({f"{name}.npy": npy()})))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name(write: Callable) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", npy())
        archive.writestr("a.npy", npy())
    assert "'a.npy' occurs 2 times" in refusal(write(file.getvalue()))


def test_unusual_zip_files(write: Callable) -> None:
    assert "compressed in a way NumPy does not write" in refusal(write(zipped({"a.npy": npy()}, zipfile.ZIP_LZMA)))
    content = bytearray(zipped({"a.npy": npy()}))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the directory
    assert "is encrypted ('a.npy')" in refusal(write(bytes(content)))


def test_a_directory_that_swallows_members(write: Callable) -> None:
    content = bytearray(npz(a=np.ones(2), b=np.ones(2)))
    first, second = (content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02"))
    content[first + 32] = content.rindex(b"PK\x05\x06") - second  # the second entry becomes the comment of the first
    assert "does not list as many members as it says" in refusal(write(bytes(content)))


def test_more_members_than_their_number_has_room_for(write: Callable) -> None:
    content = bytearray(npz(a=np.ones(2)))
    end = content.rindex(b"PK\x05\x06")
    content[end + 10 : end + 12] = b"\xff\xff"
    assert "a" in read_arrays(write(bytes(content)))


def test_a_comment_after_the_directory_does_no_harm(write: Callable) -> None:
    file = io.BytesIO(npz(a=np.ones(2)))
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"x" * 60_000
    assert "a" in read_arrays(write(file.getvalue()))


def test_a_pickle_inside_is_not_run(write: Callable, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    assert "holds pickled objects in 'a'" in refusal(write(npz(a=np.array([Trap()], object))))
    assert PICKLE in refusal(write(pickle.dumps(Trap())))
    assert not (tmp_path / "sprung").exists()


def test_nan_and_infinity(write: Callable) -> None:
    arrays = {"a": np.ones(3), "b": np.array([1, np.nan], np.float32), "c": np.array([-np.inf], ml_dtypes.bfloat16)}
    assert "holds NaN or infinity in 'b' and 1 more arrays" in refusal(write(npz(**arrays)))
    del arrays["b"]
    assert "holds NaN or infinity in 'c':" in refusal(write(npz(**arrays)))


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({}, "no weight_map"),
        ({"weight_map": []}, "no weight_map"),
        ({"weight_map": {}}, "no weight_map"),
        ({"weight_map": {"a": "../out.safetensors"}}, "puts 'a' into '../out.safetensors'"),
        ({"weight_map": {"a": "/out.safetensors"}}, "puts 'a' into '/out.safetensors'"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "puts 'a' into 'pytorch_model.bin'"),
        ({"weight_map": {"a": 3}}, "puts 'a' into 3"),
        ({"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}, "names 1 missing files, first 'y.safetensors'"),
        ({"weight_map": {"a": "x.safetensors", "b": "x.safetensors"}}, "and 'x.safetensors' disagree about 'b'"),
        ({"weight_map": {"a": "x.safetensors", "c": "z.safetensors"}}, "and 'z.safetensors' disagree about 'a'"),
    ],
)
def test_an_index_that_lies(tmp_path: Path, index: dict, says: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(safetensors({"a": entry([1], 4)}, bytes(4)))
    (tmp_path / "z.safetensors").write_bytes(safetensors({"a": entry([1], 4), "c": entry([1], 8, begin=4)}, bytes(8)))
    (tmp_path.parent / "out.safetensors").write_bytes(safetensors({"a": entry([1], 4)}, bytes(4)))
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert says in refusal(tmp_path / INDEX)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(OFFICIAL[:-1])
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "x.safetensors"}}')
    with pytest.raises(UserError, match=r"x\.safetensors' is truncated or damaged \(26 bytes of arrays are declared"):
        read_arrays(tmp_path)


# Memory.


def test_a_tera_declared_in_safetensors(write: Callable, little_memory: None) -> None:
    path = write(safetensors({"a": entry([TERA], 4 * TERA)}, bytes(4)))
    assert f"{4 * TERA} bytes of arrays are declared, 4 are there" in refusal(path)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"file_size": TERA}, "more than 20 times as many: save it uncompressed"),
        ({"file_size": TERA, "compress_size": TERA}, "declared larger than the file, or overlap"),
    ],
)
def test_a_tera_declared_in_npz(write: Callable, little_memory: None, sizes: dict, says: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", npy((TERA // 4,)))
        for field, value in sizes.items():
            setattr(archive.infolist()[0], field, value)  # what the directory will say
    assert says in refusal(write(file.getvalue()))


@pytest.mark.parametrize("members", [1, 80])
def test_a_bomb(write: Callable, members: int, request: pytest.FixtureRequest) -> None:
    zeros = npy((80 * MIB // members // 4,), data=bytes(80 * MIB // members))
    path = write(zipped({f"{i}.npy": zeros for i in range(members)}, zipfile.ZIP_DEFLATED))
    del zeros
    assert path.stat().st_size < MIB
    request.getfixturevalue("little_memory")
    assert "more than 20 times as many" in refusal(path)


def test_a_huge_zip_directory(write: Callable, little_memory: None) -> None:
    size, directory = 400 * MIB, 300 * MIB
    path = write(b"PK\x03\x04")
    with open(path, "r+b") as file:
        file.truncate(size)  # sparse: takes no room
        file.seek(0, os.SEEK_END)
        file.write(b"PK\x05\x06" + bytes(8) + directory.to_bytes(4, "little") + (100 * MIB).to_bytes(4, "little"))
        file.write(bytes(2))
    assert f"a directory of {directory} bytes is declared, more than {16 * MIB}" in refusal(path)


def test_arrays_larger_than_memory(write: Callable, little_memory: None) -> None:
    path = write(safetensors({"a": entry([64 * MIB], 256 * MIB)}))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size + 256 * MIB)
    assert "does not fit the memory of this machine" in refusal(path)


# Anything at all.

SMALL = {
    "a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a/bias": np.array([1, 2], np.int32),
    "zeros": np.zeros(50, np.float16),
}


def small_files() -> dict[str, bytes]:
    packed = io.BytesIO()
    np.savez_compressed(packed, **SMALL)
    return {"npz": npz(**SMALL), "compressed": packed.getvalue(), "safetensors": OFFICIAL}


FILES = small_files()


def outcome(path: Path, content: bytes) -> dict[str, np.ndarray] | None:
    """The arrays; None if refused in one line. Any other error is the test's."""
    path.write_bytes(content)
    try:
        return read_arrays(path)
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    assert str(path) in message
    return None


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_refused(tmp_path: Path, kind: str) -> None:
    content = FILES[kind]
    accepted = [end for end in range(len(content)) if outcome(tmp_path / "w", content[:end]) is not None]
    assert accepted == []


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_flipped_bytes(tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    places = st.integers(0, len(content) - 1)
    for place, change in data.draw(st.dictionaries(places, st.integers(1, 255), min_size=1, max_size=4)).items():
        content[place] ^= change
    found = outcome(tmp_path_factory.getbasetemp() / "flipped", bytes(content))
    if found is None:
        return
    if kind == "safetensors":  # has no checksum: a changed number or letter of a name goes unnoticed
        assert len(found) == 4
        assert sum(array.nbytes for array in found.values()) == 26
    else:
        assert found.keys() == SMALL.keys()
        for name, array in found.items():
            np.testing.assert_array_equal(array, SMALL[name], strict=True)


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x02\0\0\0\0\0\0\0{"]),
    rest=st.binary(max_size=80),
)
def test_noise(tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes) -> None:
    outcome(tmp_path_factory.getbasetemp() / "noise", start + rest)


# JSON.


def test_json_object(write: Callable) -> None:
    assert read_json(write(b'\xef\xbb\xbf{"a": [1, "\xc3\xa9"]}')) == {"a": [1, "é"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<html>", "is truncated or damaged (JSONDecodeError"),
        (b"[1]", "a JSON object was expected, not list"),
        (b'{"a": 1, "a": 2}', "the name 'a' occurs 2 times"),
        (b'{"a": {"b": 1, "b": 2}}', "the name 'b' occurs 2 times"),
        (b'{"a": "\xff"}', "is truncated or damaged (UnicodeDecodeError"),
        (b"[" * 100_000, "is truncated or damaged (RecursionError"),
        (b'{"a": 1', "is truncated or damaged (JSONDecodeError"),
    ],
)
def test_no_json_object(write: Callable, content: bytes, says: str) -> None:
    assert says in refusal(write(content, "w.json"), read_json)


def test_json_has_a_limit(write: Callable, tmp_path: Path) -> None:
    path = write(b'{"a": 1}')
    assert read_json(path, limit_bytes=8) == {"a": 1}
    assert "has 8 bytes, more than the 7" in refusal(path, lambda path: read_json(path, limit_bytes=7))
    assert "does not exist" in refusal(tmp_path / "other.json", read_json)
    assert "is not a file" in refusal(tmp_path, read_json)
