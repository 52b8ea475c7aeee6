"""From a source to batches: the streams, made ahead of their use, and what happens when images are bad."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from vit_jax.data.dataset import Batch
from vit_jax.data.labels import label_names
from vit_jax.data.loader import Loader, Rows
from vit_jax.data.order import eval_indices, example_seeds
from vit_jax.data.picture import BadImage, reason
from vit_jax.data.preprocess import compile_steps, cores, parse
from vit_jax.data.settings import DataSettings
from vit_jax.data.sources import Source
from vit_jax.errors import BadSetting, UserError

BAD_SHARE, BAD_LEAST = 0.01, 100  # more bad images than this, among at least so many, stop the run
_AT_ONCE = 2  # batches in the making: while one waits for its last images, the next keeps the cores busy


@dataclasses.dataclass
class BadImages:
    """Counts images that cannot be used, names them once in the log, and gives up when they are too many.

    Attributes:
      raises: whether the first one is too many.
      seen: images so far.
      skipped: how many of them could not be used.
    """

    raises: bool
    seen: int = 0
    skipped: int = 0
    named: set[str] = dataclasses.field(default_factory=set)

    def add(self, seen: int, bad: list[str]) -> None:
        """Adds a batch.

        Raises:
          UserError: too many bad ones.
        """
        if bad and self.raises:
            raise UserError(f"image {bad[0]}: mend or remove it, or set config.data.on_error=skip")
        self.seen += seen
        self.skipped += len(bad)
        for message in bad:
            if message not in self.named:
                logging.warning("skipped image %s", message)
                self.named.add(message)
        if self.seen >= BAD_LEAST and self.skipped > BAD_SHARE * self.seen:
            share = f"{self.skipped:,} of {self.seen:,} images cannot be used, more than {BAD_SHARE:.0%}"
            raise UserError(f"{share}; one of them: {min(self.named)}")


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A `Dataset` of encoded images; see `vit_jax.data.dataset`."""

    source: Source
    settings: DataSettings
    _bad: BadImages = dataclasses.field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_bad", BadImages(self.settings.on_error == "raise"))

    @property
    def size(self) -> int:
        """Examples in the split."""
        return len(self.source)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes, after the label operations of `eval_preprocess`."""
        text, field = self.settings.eval_preprocess, "config.data.eval_preprocess"
        try:
            return label_names(parse(text, field), self.source.label_names)
        except ValueError as error:
            raise BadSetting(field, text, str(error)) from None

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of labels."""
        steps = parse(self.settings.eval_preprocess, "config.data.eval_preprocess")
        return self.source.multi_label or any(function.__name__ == "multihot" for function, _ in steps)

    @property
    def skipped(self) -> int:
        """Images so far, of all streams, that could not be used; each time one comes up counts."""
        return self._bad.skipped

    def train_batches(self, seed: int, batch_size: int, rows: np.ndarray, first: int, last: int) -> Iterator[Batch]:
        """See `Dataset`. In place of an image that cannot be used stands another example, a hash of seed and place."""

        def plan(step: int) -> Rows:
            position = np.int64(step) * batch_size + rows
            seeds = example_seeds(seed, position)
            return Rows(self.source.order(seed, position), seeds, np.ones(len(rows), bool), position)

        for batch in self._batches(plan, first, last, seed, "train_preprocess"):
            del batch["mask"]
            yield batch

    def eval_batches(self, batch_size: int, rows: np.ndarray) -> Iterator[Batch]:
        """See `Dataset`. Images that cannot be used are black and masked."""

        def plan(number: int) -> Rows:
            index, mask = eval_indices(number, batch_size, rows, self.size)
            return Rows(index, np.zeros((len(rows), 2), np.int32), mask)

        yield from self._batches(plan, 0, -(-self.size // batch_size), 0, "eval_preprocess")

    def _batches(
        self, plan: Callable[[int], Rows], first: int, last: int, seed: int, preprocess: str
    ) -> Iterator[Batch]:
        settings = self.settings
        text, field = getattr(settings, preprocess), f"config.data.{preprocess}"
        program = compile_steps(text, field, settings.height_width, settings.channels)
        try:
            loader = Loader(self.source, program, settings.threads or cores())
        except (ValueError, KeyError) as error:  # of label operations
            raise BadSetting(field, text, f"does not suit the records ({reason(error)})") from None
        failures: list[UserError] = []

        def read(number: np.ndarray) -> tuple[Any, ...]:
            try:
                return loader.batch(plan(int(number)), seed)
            except UserError as error:  # TensorFlow would wrap it up
                failures.append(error)
                raise

        iterator = _stream(read, loader, first, last, settings.prefetch)
        for number in range(first, last):
            try:
                batch = next(iterator)
            except tf.errors.OpError as error:
                if failures:
                    raise failures[0] from None
                raise UserError(f"{field}: batch {number} cannot be processed ({reason(error)})") from None
            bad = [message.decode() for message in batch.pop("bad")]
            self._bad.add(int(batch.pop("seen")), bad)
            yield batch


def _stream(
    read: Callable[[np.ndarray], tuple[Any, ...]], loader: Loader, first: int, last: int, prefetch: int
) -> Iterator[Batch]:
    """Batches `first` to `last - 1`, some of them made ahead."""

    @tf.autograph.experimental.do_not_convert  # plain TensorFlow, see `compile_steps`
    def batch(number: tf.Tensor) -> dict[str, tf.Tensor]:
        return loader.finish(tf.numpy_function(read, [number], loader.types))

    dataset = tf.data.Dataset.range(first, last).map(batch, num_parallel_calls=_AT_ONCE).prefetch(prefetch)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # there is nothing to tune: two batches in the making, `prefetch` ready
    return dataset.with_options(options).as_numpy_iterator()


def decode_files(paths: list[str], settings: DataSettings) -> np.ndarray:
    """Image files as the model sees them in evaluation: uint8 (files, h, w, c).

    Raises:
      UserError: names the first file that cannot be read or decoded.
    """
    text, field = settings.eval_preprocess, "config.data.eval_preprocess"
    program = compile_steps(text, field, settings.height_width, settings.channels)
    images = []
    for path in paths:
        try:
            images.append(program.image(Path(path).read_bytes(), np.zeros((2,), np.int32)))
        except OSError as error:
            raise UserError(f"image {path!r} cannot be read: {error.strerror}") from None
        except BadImage as error:
            raise UserError(f"image {path!r} cannot be decoded: it {error}") from None
    return np.stack(images)
