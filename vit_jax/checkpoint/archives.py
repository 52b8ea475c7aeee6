"""Arrays from files nobody vouches for: npz archives and safetensors, read without executing anything in them.

Sizes are compared with the size of the file before memory is asked for them: reading needs the bytes of the arrays,
which are at most `_EXPANSION` times those of the file, and little more. Pickles are never opened.

npz: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html in a zip. safetensors:
https://huggingface.co/docs/safetensors: eight bytes of header length, a JSON header, the data. The format is read here
and not by its library, which gives no bfloat16 to NumPy and lets repeated names through.
"""

import contextlib
import io
import json
import math
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from vit_jax.errors import UserError, one_line

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_LISTING_BYTES = 16 * 2**20  # of a zip directory, a safetensors header or an index: room for 100,000 arrays
_NPY_HEADER_BYTES = 4096  # NumPy writes 128 for any array of numbers
# Deflate packs constants a thousandfold and weights hardly at all; a file of weights that are mostly zeros still fits.
_EXPANSION = 20
_SMALL_BYTES = 64 * 2**20  # what any file may expand to
_CHUNK_BYTES = 2**20
_MAX_DIMENSIONS = 32

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_DTYPES = {
    f"{kind}{bits}": np.dtype(f"<{kind.lower()}{bits // 8}")
    for kind, widths in (("F", (16, 32, 64)), ("I", (8, 16, 32, 64)), ("U", (8, 16, 32, 64)))
    for bits in widths
} | {"BF16": _BFLOAT16}

_AGAIN = "download or export it again"
_CONVERT = "convert it to safetensors where it was made, and load that"
_PICKLE = ("is a pickle, which could run any code when loaded", f"{_CONVERT} (safetensors.torch.save_file in PyTorch)")
_PAGE = ("is a web page or a server's error message", "check the address and your access, then download it again")
_STARTS = {
    b"version https://git-lfs": ("is a git-lfs pointer, not the file it stands for", "run `git lfs pull`"),
    b"<!doctype": _PAGE,
    b"<html": _PAGE,
    b"<?xml": _PAGE,
    b"\x89hdf": ("is an HDF5 file", _CONVERT),
    b"\x93numpy": ("is one array without a name", "save it under its name with np.savez"),
    b"\x1f\x8b": ("is packed with gzip", "unpack it first"),
    **{bytes([0x80, protocol]): _PICKLE for protocol in range(2, 6)},
}
_SUFFIXES = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".pkl", ".pickle"), _PICKLE),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), ("is a Keras file", _CONVERT)),
    ".msgpack": ("is a msgpack file of Flax", _CONVERT),
    ".ckpt": ("is a checkpoint of TensorFlow or PyTorch Lightning", _CONVERT),
}


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The named arrays of an `.npz` or `.safetensors` file, or of a folder of safetensors.

    Args:
      path: the file, recognised by its content; or a folder with `model.safetensors`, or with the shards that
        `model.safetensors.index.json` lists (the index itself will do too).

    Returns:
      {name: array} in native byte order. Real numbers of up to 64 bits keep their dtype; bfloat16, also where NumPy
      saved it as two bytes of unknown type, is `ml_dtypes.bfloat16`.

    Raises:
      UserError: nothing there, damaged, too large for what it is, another format, not numbers, or not finite. Names
        the file and what to do.
    """
    where = Path(os.path.expanduser(path))
    if where.is_dir():
        where = _in_folder(where)
    arrays = _read_shards(where) if where.name.endswith(".index.json") else _read_file(where)
    infinite = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if infinite:
        more = f" and {len(infinite) - 1} more arrays" if len(infinite) > 1 else ""
        raise _refused(where, f"holds NaN or infinity in {infinite[0]!r}{more}", "take another checkpoint")
    return arrays


def read_json(path: str | os.PathLike, limit_bytes: int = _LISTING_BYTES) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      UserError: the file is missing, longer than `limit_bytes`, or holds anything but one object without repeated keys.
    """
    where = Path(os.path.expanduser(path))
    with _reading(where):
        size = _size(where)
        if size > limit_bytes:
            raise _refused(where, f"has {size} bytes, more than the {limit_bytes} a description may have", _AGAIN)
        return _json_object(where.read_bytes())


def _refused(path: Path, what: str, fix: str) -> UserError:
    short = " ".join(what.split())[:300]  # names and types come from the file, whatever their length
    return UserError(f"{str(path)!r} {short}: {fix}")


def _damaged(path: Path, how: str) -> UserError:
    return _refused(path, f"is truncated or damaged ({how})", _AGAIN)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with `path` into one line that names it."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise _refused(path, "does not fit the memory of this machine", "use a larger one, or another file") from None
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror or one_line(error)}") from None
    except Exception as error:  # zipfile, zlib and json raise many kinds for a damaged file, none of them ours
        raise _damaged(path, one_line(error)) from None


def _size(path: Path) -> int:
    """Bytes of a regular file that is not empty."""
    if not path.exists():
        raise UserError(f"{str(path)!r} does not exist: check the name")
    if not path.is_file():
        raise _refused(path, "is not a file", "name a file")
    if size := path.stat().st_size:
        return size
    raise _refused(path, "is empty", _AGAIN)


def _json_object(text: bytes) -> dict[str, Any]:
    found = json.loads(text, object_pairs_hook=_without_repeats)
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object was expected, not {type(found).__name__}")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique([key for key, _ in pairs])
    return dict(pairs)


def _check_unique(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        name, count = Counter(names).most_common(1)[0]
        raise ValueError(f"the name {name!r} occurs {count} times")


def _in_folder(folder: Path) -> Path:
    for name in (SINGLE, INDEX):
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{str(folder)!r} holds neither {SINGLE} nor {INDEX}: name the file to load, .npz or .safetensors")


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """All arrays of the files that a Hugging Face index names; files and index must agree."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise _damaged(index, "no weight_map")
    shards: dict[str, set[str]] = {}
    for name, shard in places.items():
        # A bare file name cannot leave the folder. What it links to may: the Hub's own cache is made of links.
        if type(shard) is not str or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise _refused(index, f"puts {name!r} into {shard!r}", "shards are .safetensors files of its own folder")
        shards.setdefault(shard, set()).add(name)
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        raise _refused(index, f"names {len(missing)} missing files, first {missing[0]!r}", "download them beside it")
    arrays = {}
    for shard, names in shards.items():
        found = _read_file(index.parent / shard)
        if odd := sorted(found.keys() ^ names):
            raise _refused(index, f"and {shard!r} disagree about {odd[0]!r}", "download both again from one place")
        arrays.update(found)
    return arrays


def _read_file(path: Path) -> dict[str, np.ndarray]:
    with _reading(path):
        size = _size(path)
        with open(path, "rb") as file:
            start = file.read(64)
        if _is_safetensors(start):
            return _read_safetensors(path, size)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _read_npz(path, size)
        for signature, (what, fix) in _STARTS.items():
            if start.lstrip().lower().startswith(signature):
                raise _refused(path, what, fix)
        if path.suffix == ".safetensors":
            return _read_safetensors(path, size)  # says what is wrong with it
        if path.suffix in _SUFFIXES:
            raise _refused(path, *_SUFFIXES[path.suffix])
        raise _refused(path, "is neither an npz archive nor a safetensors file", _AGAIN)


def _is_safetensors(start: bytes) -> bool:
    """A length whose upper half is zero, then a JSON object: no other format here starts so."""
    return start[4:9] == b"\0\0\0\0{"


def _read_safetensors(path: Path, size: int) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LISTING_BYTES:
            raise _damaged(path, f"a header of {length} bytes is declared, more than {_LISTING_BYTES}")
        if 8 + length > size:
            raise _damaged(path, f"a header of {length} bytes is declared in a file of {size}")
        header = _json_object(file.read(length))
        header.pop("__metadata__", None)
        entries = sorted((_entry(name, about, path) for name, about in header.items()), key=lambda entry: entry[3:])
        position = 0
        for name, shape, dtype, begin, end in entries:
            if begin != position or end - begin != _nbytes(shape, dtype):
                raise _damaged(path, f"the place of {name!r} does not fit its shape {shape} or its neighbours")
            position = end
        if position != size - 8 - length:
            raise _damaged(path, f"{position} bytes of arrays are declared, {size - 8 - length} are there")
        if not entries:
            raise _refused(path, "holds no arrays", _AGAIN)
        return {name: _filled(file, dtype, shape) for name, shape, dtype, _, _ in entries}


def _entry(name: str, about: Any, path: Path) -> tuple[str, tuple[int, ...], np.dtype, int, int]:
    """One array of a safetensors header: name, shape, dtype, first byte, byte after the last."""
    _check_name(name, path)
    try:
        code, shape, (begin, end) = about["dtype"], tuple(about["shape"]), about["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"no dtype, shape and data_offsets for {name!r}") from None
    if type(code) is not str or code not in _DTYPES:
        raise _no_numbers(path, name, code)
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise _damaged(path, f"shape or data_offsets of {name!r} are no sizes")
    return name, shape, _DTYPES[code], begin, end


class _Bounded(io.BufferedReader):
    """A file that refuses to be read at once: zipfile takes the size of the directory from the file itself."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:  # to the end, as for the 64 KiB in which a zip file may end
            size = _LISTING_BYTES
        if size > _LISTING_BYTES:
            raise ValueError(f"a directory of {size} bytes is declared, more than {_LISTING_BYTES}")
        return super().read(size)


def _read_npz(path: Path, size: int) -> dict[str, np.ndarray]:
    with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if _declared_members(file, size) not in (len(members), 0xFFFF):  # a number that means: too many for the field
            raise _damaged(path, "its directory does not list as many members as it says")
        _check_unique([member.filename for member in members])
        if any(member.filename.endswith("data.pkl") for member in members):
            raise _refused(path, *_PICKLE)
        for member in members:
            _check_member(member, path)
        if not members:
            raise _refused(path, "holds no arrays", _AGAIN)
        if sum(member.compress_size for member in members) > size:
            raise _damaged(path, "its members are declared larger than the file, or overlap")
        total = sum(member.file_size for member in members)
        if total > max(_EXPANSION * size, _SMALL_BYTES):
            what = f"declares {total} bytes of arrays in a file of {size}, more than {_EXPANSION} times as many"
            raise _refused(path, what, "save it uncompressed with np.savez if you trust it")
        return {member.filename.removesuffix(".npy"): _read_member(archive, member, path) for member in members}


def _declared_members(file: BinaryIO, size: int) -> int:
    """From the record that ends a zip file. zipfile ignores it, and so loses members behind a damaged one."""
    file.seek(max(0, size - 22 - 0xFFFF))  # its length, and the longest comment that may follow it
    tail = file.read()
    start = tail.rfind(b"PK\x05\x06")
    return int.from_bytes(tail[start + 10 : start + 12], "little")


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    if not member.filename.endswith(".npy"):
        raise _refused(path, f"is a zip file with {member.filename!r} in it, which is no array", "name an npz archive")
    _check_name(member.filename.removesuffix(".npy"), path)
    if member.flag_bits & 0x1:
        raise _refused(path, f"is encrypted ({member.filename!r})", "decrypt it first")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(path, f"is compressed in a way NumPy does not write ({member.filename!r})", "repack it")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    with archive.open(member) as stream:
        start = io.BytesIO(stream.read(_NPY_HEADER_BYTES))
    name = member.filename.removesuffix(".npy")
    shape, fortran_order, dtype = _npy_header(start, name, path)
    if start.tell() + _nbytes(shape, dtype) != member.file_size:
        raise _damaged(path, f"{name!r} declares shape {shape} of {dtype}, and has {member.file_size} bytes")
    # Opened anew instead of going back: after seeking, newer versions of zipfile do not verify the checksum.
    with archive.open(member) as stream:
        stream.read(start.tell())
        return _filled(stream, dtype, shape, "F" if fortran_order else "C")


def _npy_header(start: io.BytesIO, name: str, path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2, and deprecated type codes
            shape, fortran_order, dtype = readers[npy.read_magic(start)](start)
    except Exception:  # NumPy evaluates a literal; what that raises is a long list
        raise _damaged(path, f"{name!r} has no readable header of at most {_NPY_HEADER_BYTES} bytes") from None
    if dtype.hasobject:
        raise _refused(path, f"holds pickled objects in {name!r}, which could run any code when loaded", _CONVERT)
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None and dtype.subdtype is None:
        dtype = _BFLOAT16  # np.save knows only its size
    elif dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise _no_numbers(path, name, dtype)
    return shape, fortran_order, dtype


def _no_numbers(path: Path, name: str, dtype: object) -> UserError:
    return _refused(path, f"holds {name!r} as {str(dtype)!r}", "weights are real numbers of 8 to 64 bits or bfloat16")


def _check_name(name: str, path: Path) -> None:
    parts = name.split("/")
    if "" in parts or ".." in parts or "\\" in name or not name.isprintable():
        raise _refused(path, f"names an array {name!r}", "names are words joined by '/', never a path outside the file")


def _nbytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    if len(shape) > _MAX_DIMENSIONS or any(not 0 <= length < 2**63 for length in shape):
        raise ValueError(f"{len(shape)} dimensions, or lengths no array can have")
    return math.prod(shape) * dtype.itemsize


def _filled(file: Any, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"] = "C") -> np.ndarray:
    """The next array of `file`, whose size has been checked."""
    flat = np.empty(math.prod(shape), dtype)
    rest = memoryview(flat.view(np.uint8))
    while rest:
        count = file.readinto(rest[:_CHUNK_BYTES])
        if not count:
            raise ValueError("it ends inside an array")
        rest = rest[count:]
    return flat.astype(dtype.newbyteorder("="), copy=False).reshape(shape, order=order)
