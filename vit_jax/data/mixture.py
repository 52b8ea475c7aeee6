"""Several sources as one, with or without weights."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from vit_jax.data.order import mixed, shuffled
from vit_jax.data.sources import Source
from vit_jax.errors import BadSetting

BLOCK = 1024  # positions of the stream within which the weights are kept exactly


class Mixture(Source):
    """The examples of several sources, end to end.

    With weights, every block of 1,024 positions of the training stream holds the same number of examples of each
    source, and each source has its own epochs. Without, an epoch visits every example of all sources once. Evaluation
    visits every example once either way. Records give `image` and `label` only.

    Args:
      sources: at least two.
      weights: of the training stream, in any unit, or None.
      union: classes may differ; those of the same name are one.
      field, value: for errors.

    Raises:
      BadSetting: the sources have other classes, or none; a weight is too small.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float] | None, union: bool, field: str, value: str):
        self._sources = list(sources)
        self._sizes = [len(source) for source in sources]
        self._starts = np.cumsum([0, *self._sizes[:-1]])
        self._counts = _counts(weights, field, value) if weights else None
        self.label_names = _union([source.label_names for source in sources], union, field, value)
        self.multi_label = any(source.multi_label for source in sources)
        self.plain = all(source.plain for source in sources)
        number = {name: i for i, name in enumerate(self.label_names)}
        self._tables = [np.array([number[n] for n in source.label_names], np.int32) for source in sources]

    def __len__(self) -> int:
        return sum(self._sizes)

    def order(self, seed: int, position: np.ndarray) -> np.ndarray:
        """See `Source`."""
        if self._counts is None:
            return shuffled(seed, position, len(self))
        return mixed(seed, position, self._sizes, self._counts)

    def _by_source(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(number of the source, rows of `indices`, indices in the source) of all sources that are asked for."""
        owner = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(owner).tolist():
            rows = np.flatnonzero(owner == number)
            yield number, rows, indices[rows] - self._starts[number]

    def _empty(self, rows: int) -> np.ndarray:
        return np.zeros((rows, len(self.label_names)), np.float32) if self.multi_label else np.zeros(rows, np.int32)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """See `Source`; unless all are plain, a first byte tells `parse` the source, whose label is still its own."""
        records, labels = [b""] * len(indices), self._empty(len(indices))
        for number, rows, own in self._by_source(indices):
            found, own_labels = self._sources[number].fetch(own)
            tag = b"" if self.plain else bytes([number])
            for row, record in zip(rows.tolist(), found, strict=True):
                records[row] = tag + record
            if self.plain:
                labels[rows] = self._relabelled(number, own_labels)
            elif not self.multi_label:
                labels[rows] = own_labels
            else:
                own_labels = own_labels.reshape(len(rows), -1)  # one number or a vector an image
                labels[rows, : own_labels.shape[1]] = own_labels
        return records, labels

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        """See `Source`."""
        if self.plain:
            return {"image": record, "label": label}
        number = tf.io.decode_raw(tf.strings.substr(record, 0, 1), tf.uint8)[0]
        body = tf.strings.substr(record, 1, tf.strings.length(record))
        branches = [functools.partial(self._parse, n, body, label) for n in range(len(self._sources))]
        image, label = tf.switch_case(tf.cast(number, tf.int32), branches)
        return {"image": image, "label": label}

    def _parse(self, number: int, record: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(image, label) by source `number`, the label as one of the mixture."""
        source, table, classes = self._sources[number], self._tables[number], len(self.label_names)
        if source.multi_label:
            label = label[: len(table)]
        elif self.multi_label:
            label = tf.cast(label[0], tf.int32)
        features = source.parse(record, label)
        found = features["label"]
        if source.multi_label:
            return features["image"], tf.scatter_nd(table[:, None], found, (classes,))
        found = tf.where(found < 0, found, tf.gather(table, tf.maximum(found, 0)))
        return features["image"], tf.one_hot(found, classes) if self.multi_label else found

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """See `Source`."""
        labels = self._empty(len(indices))
        for number, rows, own in self._by_source(indices):
            labels[rows] = self._relabelled(number, self._sources[number].labels(own))
        return labels

    def _relabelled(self, number: int, labels: np.ndarray) -> np.ndarray:
        """Labels of source `number` as those of the mixture."""
        table, found = self._tables[number], self._empty(len(labels))
        if self._sources[number].multi_label:
            found[:, table] = labels
        elif self.multi_label:
            found[np.arange(len(labels)), table[labels]] = 1
        else:
            found[:] = np.where(labels < 0, labels, table[labels])
        return found

    def describe(self, index: int) -> str:
        """See `Source`."""
        ((number, _, own),) = self._by_source(np.array([index]))
        return self._sources[number].describe(int(own[0]))

    def memory_bytes(self) -> int:
        """See `Source`."""
        return sum(source.memory_bytes() for source in self._sources)


def _counts(weights: Sequence[float], field: str, value: str) -> list[int]:
    """Examples of each source in a block: whole numbers nearest to the weights that fill it (largest remainders)."""
    shares = np.array(weights) / sum(weights) * BLOCK
    counts = np.floor(shares).astype(int)
    for number in np.argsort(counts - shares, kind="stable")[: BLOCK - counts.sum()]:
        counts[number] += 1
    if not counts.all():
        raise BadSetting(field, value, f"each weight must be at least 1/{BLOCK} of their sum")
    return counts.tolist()


def _union(names: Sequence[tuple[str, ...]], union: bool, field: str, value: str) -> tuple[str, ...]:
    """Names of the classes: the first source's, then those that others add if that is allowed."""
    for number, own in enumerate(names):
        if not own:
            raise BadSetting(field, value, f"part {number + 1} has no classes, so it cannot be mixed")
        if set(own) != set(names[0]) and not union:
            here, there = sorted(set(own) ^ set(names[0]))[0], f"{len(names[0])} and {len(own)} classes"
            found = f"parts 1 and {number + 1} have different classes ({there}; only one of them has {here!r})"
            raise BadSetting(field, value, f"{found}: set config.data.union_labels=True to have all of them")
    return tuple(dict.fromkeys(name for own in names for name in own))
