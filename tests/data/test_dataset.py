"""The synthetic data set: reproducible, learnable, and in no need of files or TensorFlow."""

import sys

import numpy as np
import pytest

from vit_jax.data import DataSettings, SyntheticDataset, check_preprocess, open_dataset

ROWS = np.arange(64)


@pytest.fixture
def dataset():
    return open_dataset(DataSettings(name="synthetic", image_size=(20, 12)), "train")


def brightest_band(images: np.ndarray, classes: int = 10) -> np.ndarray:
    """The band, of `classes` equal parts from top to bottom, with the highest mean."""
    parts = np.array_split(images.reshape(len(images), -1, images.shape[-1]), classes, axis=1)
    return np.argmax([part.mean(axis=(1, 2)) for part in parts], axis=0)


def test_batches_have_the_documented_types(dataset):
    (batch,) = dataset.train_batches(0, 64, ROWS, 0, 1)
    assert (batch["image"].dtype, batch["image"].shape) == (np.uint8, (64, 20, 12, 3))
    assert (batch["label"].dtype, batch["label"].shape) == (np.int32, (64,))
    assert dataset.size == 1024
    assert dataset.label_names == tuple(f"class {i}" for i in range(10))


def test_it_opens_and_gives_batches_without_tensorflow(monkeypatch):
    for name in ("tensorflow", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    settings = DataSettings(name="synthetic", image_size=(8, 8), train_preprocess="not even valid")
    check_preprocess(settings)
    dataset = open_dataset(settings, "any split")
    assert next(dataset.train_batches(0, 4, np.arange(4), 0, 1))["image"].shape == (4, 8, 8, 3)


def test_batches_are_a_function_of_seed_and_step(dataset):
    whole = list(dataset.train_batches(5, 64, ROWS, 0, 4))
    again = list(dataset.train_batches(5, 64, ROWS, 2, 4))
    for batch, expected in zip(again, whole[2:], strict=True):
        assert np.array_equal(batch["image"], expected["image"])
        assert np.array_equal(batch["label"], expected["label"])
    others = [next(dataset.train_batches(seed, 64, ROWS, step, step + 1)) for seed, step in ((6, 0), (5, 1))]
    for other in others:
        assert not np.array_equal(other["image"], whole[0]["image"])


def test_any_rows_are_those_of_the_global_batch(dataset):
    (whole,) = dataset.train_batches(0, 64, ROWS, 3, 4)
    for rows in (ROWS[:16], ROWS[1::3]):
        (part,) = dataset.train_batches(0, 64, rows, 3, 4)
        assert np.array_equal(part["image"], whole["image"][rows])
        assert np.array_equal(part["label"], whole["label"][rows])


@pytest.mark.parametrize(("size", "channels"), [((20, 12), 3), ((8, 8), 3), ((32, 32), 1)])
def test_the_brightest_band_tells_the_class(size, channels):
    dataset = SyntheticDataset(DataSettings(name="synthetic", image_size=size, channels=channels))
    batches = list(dataset.train_batches(0, 64, ROWS, 0, 8))
    labels = np.concatenate([b["label"] for b in batches])
    found = np.concatenate([brightest_band(b["image"]) for b in batches])
    assert np.bincount(labels, minlength=10).min() > 20
    assert (found == labels).mean() > 0.99


def test_an_example_keeps_its_label_and_changes_its_pixels(dataset):
    def examples(epoch):
        batches = dataset.train_batches(0, 64, ROWS, epoch * 16, (epoch + 1) * 16)
        return [(image.tobytes(), int(label)) for b in batches for image, label in zip(*b.values(), strict=True)]

    first, second = examples(0), examples(1)
    assert sorted(label for _, label in first) == sorted(label for _, label in second)
    assert not {image for image, _ in first} & {image for image, _ in second}


@pytest.mark.parametrize("batch_size", [1000, 100, 1024, 3000])
def test_evaluation_counts_every_example_once(dataset, batch_size):
    rows = np.arange(batch_size)
    batches = list(dataset.eval_batches(batch_size, rows))
    assert sum(int(b["mask"].sum()) for b in batches) == 1024
    images = [image.tobytes() for b in batches for image in b["image"][b["mask"]]]
    assert len(set(images)) == 1024
    assert all(b["image"].shape == (batch_size, 20, 12, 3) for b in batches)
    reference = next(dataset.eval_batches(1024, np.arange(1024)))
    assert np.array_equal(np.concatenate([b["label"][b["mask"]] for b in batches]), reference["label"])
    assert images == [image.tobytes() for image in reference["image"]]
