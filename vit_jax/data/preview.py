"""What a pipeline yields, how fast, and how much host memory it will take. Needs no TensorFlow itself."""

import dataclasses
import time
from collections.abc import Iterator, Mapping

import numpy as np

from vit_jax.data.dataset import Batch, Dataset
from vit_jax.data.settings import DataSettings

_WORKING = 3  # batches besides the prefetched ones: two are made at once, one has been handed out
_SENDING = 3  # batches on their way to the devices, see `parallel.feed`
_SAMPLE = 64  # records read to estimate the size of one
MEASURED_ROWS = 256  # at most, of each batch


@dataclasses.dataclass(frozen=True)
class Measured:
    """What some batches held and what they cost.

    Attributes:
      examples: that were looked at.
      counts: float64 (classes,): how often each class was a label.
      arrays: {name: (dtype, shape of one example)}.
      images_per_second, images_per_cpu_second: of the whole process while its pipeline was full.
    """

    examples: int
    counts: np.ndarray
    arrays: dict[str, tuple[str, tuple[int, ...]]]
    images_per_second: float
    images_per_cpu_second: float


def measure(dataset: Dataset, seed: int, batch_size: int, rows: np.ndarray, prefetch: int, examples: int) -> Measured:
    """Runs the training pipeline until it has yielded `examples` images in a steady state.

    Args:
      dataset: to train on.
      seed, batch_size: of the run.
      rows: of the global batch that this host reads; the first 256 of them are taken.
      prefetch: batches that the pipeline keeps ready; so many, and those being made, are left out of the measurement.
      examples: to look at, at least.
    """
    rows = rows[:MEASURED_ROWS]
    number = max(1, -(-examples // len(rows)))
    counts = np.zeros(len(dataset.label_names))
    # The stream goes on beyond what is measured, so that the pipeline is as full at the end as at the beginning.
    batches = dataset.train_batches(seed, batch_size, rows, 0, 2 * (prefetch + _WORKING) + number)
    for _ in range(prefetch + _WORKING):
        batch = next(batches)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(number):
        batch = next(batches)
        _count(counts, batch["label"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    arrays = {name: (array.dtype.name, array.shape[1:]) for name, array in batch.items()}
    seen = number * len(rows)
    return Measured(seen, counts, arrays, seen / max(wall, 1e-9), seen / max(cpu, 1e-9))


def _count(counts: np.ndarray, labels: np.ndarray) -> None:
    """Adds the labels of a batch: class numbers, or rows of zeros and ones."""
    if labels.ndim == 2:
        counts += labels.sum(axis=0)
    else:
        counts += np.bincount(labels, minlength=len(counts))


def pictures(batches: Iterator[Batch], number: int, names: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """The first `number` images of a stream, without padding, and the names of their labels.

    Returns:
      uint8 (n, h, w, c) and n names; n is smaller where the stream ends before.
    """
    images: list[np.ndarray] = []
    labels: list[str] = []
    for batch in batches:
        for row in np.flatnonzero(batch.get("mask", np.ones(len(batch["label"]), bool))):
            images.append(batch["image"][row])
            labels.append(_name(batch["label"][row], names))
            if len(images) == number:
                return np.stack(images), labels
    return np.stack(images), labels


def _name(label: np.ndarray, names: tuple[str, ...]) -> str:
    """The class, or the classes whose weight is at least half of the largest."""
    if label.ndim == 0:
        return names[int(label)]
    if label.max() <= 0:
        return "no label"
    return ", ".join(names[i] for i in np.flatnonzero(label >= label.max() / 2))


def memory_plan(
    settings: DataSettings, datasets: Mapping[str, Dataset], rows: Mapping[str, int], label_bytes: int
) -> dict[str, int]:
    """Host memory that the pipelines will take, in bytes, part by part.

    There is no shuffle buffer, so nothing grows with the size of the data set but the source's own index. Both
    pipelines count, because that of training goes on while an evaluation runs.

    Args:
      settings: of the data.
      datasets: {"train": ..., "eval": ...}, as many as there are.
      rows: how many of each batch this host reads, likewise.
      label_bytes: of one example.
    """
    height, width = settings.height_width
    example = height * width * settings.channels + label_bytes
    plan: dict[str, int] = {}
    for name, dataset in datasets.items():
        batch = rows[name] * example
        source = getattr(dataset, "source", None)
        if source is not None:
            plan[f"{name}: index of the source"] = source.memory_bytes()
            records, _ = source.fetch(np.arange(min(_SAMPLE, dataset.size)))
            mean = sum(map(len, records)) // len(records)
            plan[f"{name}: encoded records of the batches being made"] = (_WORKING - 1) * rows[name] * mean
        plan[f"{name}: {settings.prefetch} batches ready, {_WORKING} being made or used"] = (
            settings.prefetch + _WORKING
        ) * batch
        plan[f"{name}: {_SENDING} batches on their way to the devices"] = _SENDING * batch
    return plan
