"""From a source to batches with tf.data: indices first, then records, then decoded uint8 images."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from vit_jax.data.dataset import Batch
from vit_jax.data.order import eval_indices, train_indices
from vit_jax.data.preprocess import compile_steps
from vit_jax.data.settings import DataSettings
from vit_jax.data.sources import Source
from vit_jax.errors import UserError

# Gives (indices, augmentation seeds, mask) of a batch.
Plan = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A `Dataset` of encoded images; see `vit_jax.data.dataset`."""

    source: Source
    settings: DataSettings

    @property
    def size(self) -> int:
        """Examples in the split."""
        return len(self.source)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.source.label_names

    def train_batches(self, seed: int, batch_size: int, rows: np.ndarray, first: int, last: int) -> Iterator[Batch]:
        """See `Dataset`."""

        def plan(step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            index, seeds = train_indices(seed, step, batch_size, rows, self.size)
            return index, seeds, np.ones(len(rows), bool)

        for batch in self._batches(plan, first, last, len(rows), "train_preprocess"):
            del batch["mask"]
            yield batch

    def eval_batches(self, batch_size: int, rows: np.ndarray) -> Iterator[Batch]:
        """See `Dataset`."""

        def plan(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            index, mask = eval_indices(number, batch_size, rows, self.size)
            return index, np.zeros((len(rows), 2), np.int32), mask

        yield from self._batches(plan, 0, -(-self.size // batch_size), len(rows), "eval_preprocess")

    def _batches(self, plan: Plan, first: int, last: int, rows: int, preprocess: str) -> Iterator[Batch]:
        settings = self.settings
        text, field = getattr(settings, preprocess), f"config.data.{preprocess}"
        steps = compile_steps(text, field, settings.height_width, settings.channels)

        def fetch(number: np.ndarray) -> tuple[Any, ...]:
            index, seeds, mask = plan(int(number))
            records, labels = self.source.fetch(index)
            return np.array(records, object), labels, seeds, mask

        # Plain TensorFlow, not rewritten by AutoGraph: see `compile_steps`.
        @tf.autograph.experimental.do_not_convert
        def one(record: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
            image, label = self.source.parse(record, label)
            return {"image": steps(image, seed), "label": label, "mask": mask}

        @tf.autograph.experimental.do_not_convert
        def read(number: tf.Tensor) -> tf.data.Dataset:
            found = tf.numpy_function(fetch, [number], (tf.string, tf.int32, tf.int32, tf.bool))
            for tensor, shape in zip(found, ((rows,), (rows,), (rows, 2), (rows,)), strict=True):
                tensor.set_shape(shape)
            return found

        dataset = tf.data.Dataset.range(first, last).map(read, num_parallel_calls=2)
        dataset = dataset.unbatch().map(one, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.batch(rows, drop_remainder=True).prefetch(settings.prefetch)
        options = tf.data.Options()
        options.deterministic = True
        options.autotune.enabled = True
        iterator = dataset.with_options(options).as_numpy_iterator()
        for number in range(first, last):
            try:
                yield next(iterator)
            except tf.errors.OpError as error:
                self._blame(number, plan, steps)
                raise UserError(f"{field}: batch {number} cannot be processed ({_reason(error)})") from None

    def _blame(self, number: int, plan: Plan, steps: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> None:
        """Raises UserError that names the first image of a batch which cannot be processed."""
        index, seeds, _ = plan(number)
        for i, seed in zip(index, seeds, strict=True):
            try:
                (record,), labels = self.source.fetch(np.array([i]))
                image, _ = self.source.parse(tf.constant(record), tf.constant(labels[0]))
                steps(image, tf.constant(seed))
            except (tf.errors.OpError, OSError) as error:
                where = f"image {self.source.describe(int(i))!r}"
                raise UserError(f"{where} cannot be processed ({_reason(error)}): mend or remove it") from None


def _reason(error: Exception) -> str:
    """What TensorFlow or the file system says, without the node it says it of."""
    return " ".join(str(error).split("}} ")[-1].split())[:120]


def decode_files(paths: list[str], settings: DataSettings) -> np.ndarray:
    """Image files as the model sees them in evaluation: uint8 (files, h, w, c).

    Raises:
      UserError: names the first file that cannot be read or decoded.
    """
    text, field = settings.eval_preprocess, "config.data.eval_preprocess"
    steps = compile_steps(text, field, settings.height_width, settings.channels)
    images = []
    for path in paths:
        try:
            images.append(steps(tf.constant(Path(path).read_bytes()), tf.zeros((2,), tf.int32)).numpy())
        except OSError as error:
            raise UserError(f"image {path!r} cannot be read: {error.strerror}") from None
        except tf.errors.InvalidArgumentError:
            raise UserError(f"image {path!r} cannot be decoded: it must be PNG, JPEG, BMP or GIF") from None
    return np.stack(images)
