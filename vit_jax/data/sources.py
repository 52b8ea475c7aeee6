"""Where images come from: random access by index, behind one small interface."""

import hashlib
import os
import types
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data.tfrecord import TFRecords
from vit_jax.errors import BadSetting, did_you_mean

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class Source(Protocol):
    """A split of images with labels.

    `fetch` runs in Python and gives undecoded records; `parse` is traced into the tf.data graph.
    """

    label_names: tuple[str, ...]

    def __len__(self) -> int:
        """Examples in the split."""

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """(records, int32 labels) of these examples; a label is -1 where `parse` finds it in the record."""

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(record, label) -> (encoded image bytes, int32 label)."""

    def describe(self, index: int) -> str:
        """Where a person finds this example."""


class TfdsSource:
    """A prepared TFDS data set stored as TFRecord; nothing is ever downloaded here.

    Args:
      name: as `tfds.builder` takes it.
      data_dir: TFDS's place by default.
      split: any TFDS split expression.
    """

    def __init__(self, name: str, data_dir: str | None, split: str):
        builder = find_builder(name, data_dir)
        self._features = builder.info.features
        for key, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
            if key not in self._features or not isinstance(self._features[key], kind):
                keys = ", ".join(self._features)
                raise BadSetting(
                    "config.data.name", name, f"needs the feature {key!r} ({kind.__name__}); it has {keys}"
                )
        stored = builder.info.file_format
        if stored != tfds.core.FileFormat.TFRECORD:
            fix = f"is stored as {stored and stored.value}; prepare it as tfrecord in another data_dir"
            raise BadSetting("config.data.name", name, fix)
        self.label_names = tuple(self._features["label"].names)
        chosen = _split(builder, name, split)
        if chosen.num_examples < 1:
            raise BadSetting("split", split, f"holds no examples of {name}")
        self._records = TFRecords([(str(i.filename), i.skip, i.take) for i in chosen.file_instructions])

    def __len__(self) -> int:
        return len(self._records)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """See `Source`."""
        return self._records.read(indices), np.full(len(indices), -1, np.int32)

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Source`."""
        example = self._features.deserialize_example(record, decoders={"image": tfds.decode.SkipDecoding()})
        return example["image"], tf.cast(example["label"], tf.int32)

    def describe(self, index: int) -> str:
        """See `Source`."""
        return self._records.describe(index)


def find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The builder of a prepared data set.

    Raises:
      BadSetting: no such data set, or it is not prepared; says which command prepares it.
    """
    command = f"vit_jax prepare {name}" + (f" --data_dir={data_dir}" if data_dir else "")
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        from vit_jax.data.preparation import EMBEDDED

        if name in EMBEDDED:
            raise BadSetting("config.data.name", name, f"is not prepared yet; run: {command}") from None
        known = [*tfds.list_builders(with_community_datasets=False), *EMBEDDED, "folder", "synthetic"]
        fix = did_you_mean(name, known) if len(name) < 40 else ""
        fix = fix if fix.startswith("did") else "give a TFDS name, `folder` with data_dir, or `synthetic`"
        raise BadSetting("config.data.name", name, f"no such data set; {fix}") from None
    except (ValueError, AssertionError) as error:  # a name that is no name, a config or version that is not there
        reason = " ".join(str(error).split())[:300]
        raise BadSetting("config.data.name", name, f"cannot be opened: {reason}") from None
    if not builder.info.splits:
        where = os.fspath(builder.data_dir)
        raise BadSetting("config.data.name", name, f"is not prepared in {where}; run: {command}") from None
    return builder


def _split(builder: tfds.core.DatasetBuilder, name: str, split: str) -> tfds.core.splits.SubSplitInfo:
    try:
        return builder.info.splits[split]
    except (ValueError, KeyError, AssertionError):
        raise BadSetting("split", split, f"{name} has {', '.join(builder.info.splits)} and slices of them") from None


class FolderSource:
    """Images in `<root>/<split>/<class>/...`, any depth below the class.

    The classes are the folders found in all splits, sorted; the files of a split are in a fixed scattered order, so
    that slices such as `train[:90%]` hold every class.
    """

    def __init__(self, root: str | None, split: str):
        if root is None:
            raise BadSetting(
                "config.data.data_dir", root, "a `folder` data set needs it: <data_dir>/<split>/<class>/*.jpg"
            )
        base = Path(root).expanduser()
        splits = [d.name for d in _folders(base)] if base.is_dir() else []
        if not splits:
            raise BadSetting(
                "config.data.data_dir", root, "no such folder, or no split in it: <data_dir>/<split>/<class>/*.jpg"
            )
        self.label_names = tuple(sorted({c.name for s in splits for c in _folders(base / s)}))
        files = {s: _scattered(base / s) for s in splits}
        chosen = [files[s][start:stop] for s, start, stop in _slices(split, {s: len(f) for s, f in files.items()})]
        self._paths = [path for part in chosen for path in part]
        if not self._paths:
            raise BadSetting("split", split, f"holds no {', '.join(IMAGE_SUFFIXES)} below {base}/<split>/<class>/")
        number = {name: i for i, name in enumerate(self.label_names)}
        depth = len(base.parts) + 1
        self._labels = np.array([number[path.parts[depth]] for path in self._paths], np.int32)

    def __len__(self) -> int:
        return len(self._paths)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """See `Source`."""
        return [self._paths[i].read_bytes() for i in indices], self._labels[indices]

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Source`."""
        return record, label

    def describe(self, index: int) -> str:
        """See `Source`."""
        return str(self._paths[index])


def _folders(path: Path) -> list[Path]:
    """The folders in this one, sorted, without hidden ones."""
    return sorted(d for d in path.iterdir() if d.is_dir() and not d.name.startswith("."))


def _scattered(split: Path) -> list[Path]:
    """All images of a split in an order fixed by their relative names and unrelated to their classes."""
    found = []
    for top in _folders(split):
        for folder, _, names in os.walk(top, followlinks=True):
            found += [Path(folder) / name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    return sorted(found, key=lambda p: hashlib.sha1(p.relative_to(split).as_posix().encode()).digest())


def _slices(split: str, sizes: dict[str, int]) -> list[tuple[str, int, int]]:
    """TFDS split expressions such as `train[:90%]+val` over splits of these sizes."""
    infos = {name: types.SimpleNamespace(num_examples=size, num_shards=1) for name, size in sizes.items()}
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, KeyError, AssertionError):
        raise BadSetting("split", split, f"there are {', '.join(sizes)} and slices of them") from None
    return [(i.splitname, i.from_ or 0, sizes[i.splitname] if i.to is None else i.to) for i in instructions]
