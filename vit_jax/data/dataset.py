"""What every data set offers to the rest of the house, and the one that needs no files."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from vit_jax.data.order import eval_indices, example_seeds, mix, train_indices
from vit_jax.data.settings import DataSettings

Batch = dict[str, np.ndarray]


class Dataset(Protocol):
    """A split of a data set as batches of the rows that this host reads.

    Batches hold `image` uint8 (rows, h, w, c) and `label` int32 (rows,), or float32 (rows, classes) where an image may
    have several labels or parts of them; evaluation batches also `mask` bool (rows,), False on padding.
    """

    @property
    def size(self) -> int:
        """Examples in the split."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of labels."""

    def train_batches(self, seed: int, batch_size: int, rows: np.ndarray, first: int, last: int) -> Iterator[Batch]:
        """Batches `first` to `last - 1` of the endless shuffled stream of (seed, batch_size)."""

    def eval_batches(self, batch_size: int, rows: np.ndarray) -> Iterator[Batch]:
        """Every example once, in order; the last batch is padded and masked."""


@dataclasses.dataclass(frozen=True)
class SyntheticDataset:
    """Random images whose brightest horizontal band tells the class; needs neither files nor TensorFlow.

    For benchmarks and tests: a run on it is the same program as on real data.
    """

    settings: DataSettings
    size: int = 1024
    classes: int = 10
    multi_label: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """`class 0`, `class 1`, ..."""
        return tuple(f"class {i}" for i in range(self.classes))

    def _batch(self, index: np.ndarray, seeds: np.ndarray) -> Batch:
        height, width = self.settings.height_width
        label = (mix(index, 0xC1A55) % np.uint64(self.classes)).astype(np.int32)
        shape = (height, width, self.settings.channels)
        image = np.stack(
            [
                np.random.Generator(np.random.Philox(key=k)).integers(0, 128, shape, np.uint8)
                for k in seeds.view(np.uint32).astype(np.uint64)
            ]
        )
        bands = (np.arange(height * width) * self.classes // (height * width)).reshape(height, width)
        image[bands[None] == label[:, None, None]] += 100
        return {"image": image, "label": label}

    def train_batches(self, seed: int, batch_size: int, rows: np.ndarray, first: int, last: int) -> Iterator[Batch]:
        """See `Dataset`."""
        for step in range(first, last):
            yield self._batch(*train_indices(seed, step, batch_size, rows, self.size))

    def eval_batches(self, batch_size: int, rows: np.ndarray) -> Iterator[Batch]:
        """See `Dataset`."""
        for number in range(-(-self.size // batch_size)):
            index, mask = eval_indices(number, batch_size, rows, self.size)
            yield {**self._batch(index, example_seeds(0, index)), "mask": mask}
