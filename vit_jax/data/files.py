"""Images that are files of their own: many paths in little memory, and folders of classes."""

import hashlib
import logging
import os
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from vit_jax.data.sources import Source, split_slices
from vit_jax.errors import BadSetting, UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


class Paths:
    """Paths below one folder: their bytes end to end and where each begins, instead of an object each.

    Args:
      base: what relative paths are relative to.
      paths: in the order of their indices, as the file system spells them.
    """

    def __init__(self, base: str, paths: Iterable[bytes]):
        blob, ends = bytearray(), array("q", [0])
        for path in paths:
            blob += path
            ends.append(len(blob))
        self.base, self._blob, self._ends = base, bytes(blob), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def relative(self, index: int) -> bytes:
        """A path as it was given."""
        return self._blob[self._ends[index] : self._ends[index + 1]]

    def __getitem__(self, index: int) -> str:
        """A path that can be opened."""
        path = os.fsdecode(self.relative(index))
        return path if "://" in path else os.path.join(self.base, path)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Paths":
        """These paths in this order."""
        return Paths(self.base, (self.relative(index) for index in indices))

    def scattered(self) -> np.ndarray:
        """An order fixed by the relative paths and unrelated to them, as indices: that of their hashes."""
        hashes = np.empty((len(self), 2), ">u8")
        for index in range(len(self)):
            hashes[index] = np.frombuffer(hashlib.sha1(self.relative(index)).digest()[:16], ">u8")
        return np.lexsort((hashes[:, 1], hashes[:, 0]))

    def read(self, indices: np.ndarray) -> list[bytes]:
        """Contents of these files; b"" and a warning for one that cannot be read."""
        return [_contents(self[index]) for index in indices.tolist()]

    def memory_bytes(self) -> int:
        """Of host memory."""
        return len(self._blob) + self._ends.nbytes


def _contents(path: str) -> bytes:
    try:
        if "://" in path:
            with tf.io.gfile.GFile(path, "rb") as file:
                return file.read()
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        logging.warning("%s cannot be read (%s)", path, reason)
        return b""


def check_class_names(names: Iterable[str], field: str, value: object) -> None:
    """Raises BadSetting when two names differ only in case or in how their accents are encoded."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise BadSetting(field, value, f"the classes {other!r} and {name!r} differ only in spelling: rename one")


class FileSource(Source):
    """Images that are files, with labels that are known before they are opened.

    Args:
      paths: of the images.
      labels: int32 (n,).
      label_names: of the classes.
    """

    multi_label = False
    plain = True

    def __init__(self, paths: Paths, labels: np.ndarray, label_names: tuple[str, ...]):
        self._paths, self._labels, self.label_names = paths, labels, label_names

    def __len__(self) -> int:
        return len(self._paths)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """See `Source`."""
        return self._paths.read(indices), self.labels(indices)

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        """See `Source`."""
        return {"image": record, "label": label}

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """See `Source`; reads nothing."""
        return self._labels[indices]

    def describe(self, index: int) -> str:
        """See `Source`."""
        return self._paths[index]

    def memory_bytes(self) -> int:
        """See `Source`."""
        return self._paths.memory_bytes() + self._labels.nbytes


class FolderSource(FileSource):
    """Images in `<root>/<split>/<class>/...`, any depth below the class.

    The classes are the folders found in all splits, sorted; one without any image stays one, with a warning. The files
    of a split are in a fixed scattered order, so that slices such as `train[:90%]` hold every class. Hidden files and
    folders are ignored. Links are followed, each real folder once in a class, and never out to what holds the class.
    """

    def __init__(self, root: str | None, split: str):
        if root is None:
            raise BadSetting(
                "config.data.data_dir", root, "a `folder` data set needs it: <data_dir>/<split>/<class>/*.jpg"
            )
        base = Path(root).expanduser()
        names = [d.name for d in _folders(base)] if base.is_dir() else []
        if not names:
            raise BadSetting(
                "config.data.data_dir", root, "no such folder, or no split in it: <data_dir>/<split>/<class>/*.jpg"
            )
        classes = tuple(sorted({c.name for name in names for c in _folders(base / name)}))
        check_class_names(classes, "config.data.data_dir", root)
        listed: dict[str, tuple[Paths, np.ndarray]] = {}

        def count(name: str) -> int:
            if name not in listed:
                listed[name] = _listing(base / name, classes)
            return len(listed[name][0])

        chosen = split_slices(split, names, count)
        paths = Paths(
            os.path.abspath(base),
            (
                os.fsencode(f"{name}/") + listed[name][0].relative(index)
                for name, start, stop in chosen
                for index in range(start, stop)
            ),
        )
        if not len(paths):
            raise BadSetting("split", split, f"holds no {', '.join(IMAGE_SUFFIXES)} below {base}/<split>/<class>/")
        labels = np.concatenate([listed[name][1][start:stop] for name, start, stop in chosen])
        super().__init__(paths, labels, classes)
        present = {classes[label] for _, found in listed.values() for label in np.unique(found)}
        empty = [c for c in classes if c not in present and not _any_image(base / s / c for s in names)]
        if empty:
            logging.warning("%s has classes without any image: %s", base, ", ".join(empty))


def _folders(path: Path) -> list[Path]:
    """The folders in this one, sorted, without hidden ones."""
    return sorted(d for d in path.iterdir() if d.is_dir() and not d.name.startswith("."))


def _listing(split: Path, classes: Sequence[str]) -> tuple[Paths, np.ndarray]:
    """All images of a split, as paths below it in a scattered order, and their int32 labels."""
    labels = array("i")

    def walk() -> Iterator[bytes]:
        for label, name in enumerate(classes):
            for path in _images(split / name):
                labels.append(label)
                yield os.fsencode(f"{name}/{path}")

    paths = Paths(os.fspath(split), walk())
    order = paths.scattered()
    return paths.take(order), np.array(labels, np.int32)[order]


def _images(folder: Path) -> Iterator[str]:
    """Relative paths of the images in a folder at any depth, sorted folder by folder; none where it is missing.

    Raises:
      UserError: a folder may not be listed.
    """
    real = folder.resolve()
    seen = {real, *real.parents, *folder.absolute().parents} - {real}  # a link that leads out again is no class
    below = [""] if folder.is_dir() else []
    while below:
        where = below.pop()
        real = (folder / where).resolve()
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(real) as entries:
                found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            raise UserError(f"folder {folder / where} cannot be listed ({error.strerror})") from None
        folders = [os.path.join(where, e.name) for e in found if e.is_dir()]
        below += reversed(folders)
        yield from (
            os.path.join(where, e.name) for e in found if e.name.lower().endswith(IMAGE_SUFFIXES) and e.is_file()
        )


def _any_image(folders: Iterable[Path]) -> bool:
    return any(next(_images(folder), None) is not None for folder in folders)
