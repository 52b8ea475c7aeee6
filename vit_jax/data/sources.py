"""Where images come from: random access by index, behind one small interface; and TFDS data sets."""

import functools
import os
import types
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data.arrayrecord import ArrayRecords
from vit_jax.data.order import shuffled
from vit_jax.data.tfrecord import Part, Shard, TFRecords
from vit_jax.errors import BadSetting, did_you_mean

SPECIAL_NAMES = ("folder", "manifest", "synthetic")  # of `config.data.name`, besides those of TFDS


class Source(Protocol):
    """A split of images with labels.

    `fetch` runs in Python, in any thread, and gives undecoded records; `parse` is traced into the tf.data graph.

    Attributes:
      label_names: of the classes, in the order of the labels.
      multi_label: an image has any number of labels: float32 (classes,) of 0 and 1 instead of one int32.
      name: tells the examples and their order, as far as that can be told without reading them; empty where it cannot.
      plain: records are encoded images and all labels come from `fetch`: `parse` changes neither.
    """

    label_names: tuple[str, ...]
    multi_label: bool
    name: str = ""
    plain: bool = False

    def __len__(self) -> int:
        """Examples in the split."""

    def order(self, seed: int, position: np.ndarray) -> np.ndarray:
        """Which examples stand at these positions of the endless training stream of `seed`: int64 indices.

        A pure function, see `vit_jax.data.order`. Only mixtures have another order than this one.
        """
        return shuffled(seed, position, len(self))

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """(records, labels) of these examples.

        Labels are int32 (n,), or float32 (n, classes) for multi-label sources; -1 where `parse` finds them in the
        record. A picture that cannot be read is b"", which no decoder takes for one.
        """

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        """(record, label) -> the features of the example, at least `image` (encoded bytes) and `label`."""

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Labels of these examples, like those of `fetch` but never left to `parse`; no image is decoded for them."""

    def describe(self, index: int) -> str:
        """Where a person finds this example."""

    def memory_bytes(self) -> int:
        """Host memory that the source itself holds, without what the system may drop, such as mapped files."""


class TfdsSource(Source):
    """A prepared TFDS data set stored as TFRecord or ArrayRecord; nothing is ever downloaded here.

    Args:
      name: as `tfds.builder` takes it.
      data_dir: TFDS's place by default.
      split: any TFDS split expression.
      image_key: feature that holds the image.
      label_key: feature that holds the label, a ClassLabel or a list of them; None where label operations compute it
        from others: then `label_names` is empty and the label -1 until they do.
    """

    def __init__(
        self,
        name: str,
        data_dir: str | None,
        split: str,
        image_key: str = "image",
        label_key: str | None = "label",
    ):
        builder = find_builder(name, data_dir)
        self._features, self._image_key, self._label_key = builder.info.features, image_key, label_key
        self._kinds = dict(self._features.items())
        if not isinstance(self._kinds.get(image_key), tfds.features.Image):
            raise BadSetting("config.data.image_key", image_key, f"{name} has {_features(self._kinds, 'Image')}")
        self.label_names: tuple[str, ...] = ()
        self.multi_label = False
        if label_key is not None:
            self.label_names, self.multi_label = self._labelling(name, label_key)
        chosen = _split(builder, name, split)
        if chosen.num_examples < 1:
            raise BadSetting("split", split, f"holds no examples of {name}")
        parts = [Part(str(file.filename), file.skip, file.take) for file in chosen.file_instructions]
        self._records = _records(builder, name, parts)
        self.name = self._records.name

    def _labelling(self, name: str, key: str) -> tuple[tuple[str, ...], bool]:
        """(names of the classes, whether an image has several)."""
        feature = self._kinds.get(key)
        multi_label = isinstance(feature, tfds.features.Sequence)
        kind = getattr(feature, "feature", None) if multi_label else feature
        if not isinstance(kind, tfds.features.ClassLabel) or not kind.num_classes:
            found = _features(self._kinds, "ClassLabel or a list of it")
            raise BadSetting("config.data.label_key", key, f"{name} has {found}; None if a label operation computes it")
        return tuple(kind.names), multi_label

    def __len__(self) -> int:
        return len(self._records)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """See `Source`."""
        shape = (len(indices), len(self.label_names)) if self.multi_label else (len(indices),)
        return self._records.read(indices), np.full(shape, -1, np.float32 if self.multi_label else np.int32)

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        """See `Source`: all features of the record, images still encoded, and besides them `image` and `label`."""
        images = [key for key, kind in self._kinds.items() if isinstance(kind, tfds.features.Image)]
        example = self._features.deserialize_example(record, decoders={k: tfds.decode.SkipDecoding() for k in images})
        found = label if self._label_key is None else example[self._label_key]
        if self.multi_label:
            found = tf.minimum(tf.reduce_sum(tf.one_hot(found, len(self.label_names)), axis=0), 1.0)
        else:
            found = tf.cast(found, tf.int32)
        return {**example, "image": example[self._image_key], "label": found}

    @functools.cached_property
    def _parsed_labels(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The labels of a batch of records; TensorFlow leaves out all the rest of `parse`."""
        shape, dtype = ((len(self.label_names),), tf.float32) if self.multi_label else ((), tf.int32)
        unknown = tf.fill(shape, tf.constant(-1, dtype))
        one = tf.autograph.experimental.do_not_convert(lambda record: self.parse(record, unknown)["label"])
        return tf.function(
            lambda records: tf.map_fn(one, records, fn_output_signature=tf.TensorSpec(shape, dtype)),
            input_signature=[tf.TensorSpec((None,), tf.string)],
            autograph=False,
        )

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """See `Source`; reads the whole records."""
        return self._parsed_labels(tf.constant(np.array(self._records.read(indices), object), tf.string)).numpy()

    def describe(self, index: int) -> str:
        """See `Source`."""
        return self._records.describe(index)

    def memory_bytes(self) -> int:
        """See `Source`."""
        return self._records.memory_bytes()


def _features(kinds: dict[str, tfds.features.FeatureConnector], wanted: str) -> str:
    """What a data set has, and what it should have."""
    found = ", ".join(f"{key} ({type(kind).__name__})" for key, kind in kinds.items())
    return f"no feature of that name that is {wanted}; it has {found}"


def _records(builder: tfds.core.DatasetBuilder, name: str, parts: list[Part]) -> TFRecords | ArrayRecords:
    stored, formats = builder.info.file_format, tfds.core.FileFormat
    if stored == formats.ARRAY_RECORD:
        return ArrayRecords(parts)
    if stored != formats.TFRECORD:
        fix = f"is stored as {stored and stored.value}; prepare it as tfrecord or array_record in another data_dir"
        raise BadSetting("config.data.name", name, fix)
    whole = [info.file_instructions for info in builder.info.splits.values() if info.num_examples]
    splits = [[Shard(str(file.filename), file.examples_in_shard) for file in files] for files in whole]
    used = {part.path for part in parts}
    return TFRecords([shards for shards in splits if any(shard.path in used for shard in shards)], parts)


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
        known = [*tfds.list_builders(with_community_datasets=False), *EMBEDDED, *SPECIAL_NAMES]
        fix = did_you_mean(name, known) if len(name) < 40 else ""
        fix = fix if fix.startswith("did") else "give a TFDS name, `folder` or `manifest` with data_dir, or `synthetic`"
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


class _Lazy(types.SimpleNamespace):
    """What TFDS wants to know of a split; the examples are counted when it asks for them."""

    num_shards = 1

    @property
    def num_examples(self) -> int:
        return self.count(self.split)


def split_slices(split: str, names: Iterable[str], count: Callable[[str], int]) -> list[tuple[str, int, int]]:
    """TFDS split expressions such as `train[:90%]+val` over any splits.

    Args:
      split: the expression.
      names: of the splits there are.
      count: examples of a split; asked only for those that the expression names.

    Returns:
      (name, first example, last example + 1) of each part.

    Raises:
      BadSetting: of the field `split`.
    """
    infos = {name: _Lazy(split=name, count=count) for name in names}
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, KeyError, AssertionError):
        raise BadSetting("split", split, f"there are {', '.join(infos)} and slices of them") from None
    return [(i.splitname, i.from_ or 0, count(i.splitname) if i.to is None else i.to) for i in instructions]
