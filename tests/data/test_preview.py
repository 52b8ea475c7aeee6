"""What `vit_jax data` measures, on the synthetic data set and on batches made by hand."""

import numpy as np
import pytest

from vit_jax.data import DataSettings, SyntheticDataset, preview, train_indices
from vit_jax.data.order import mix


def synthetic(classes=10, **more):
    return SyntheticDataset(DataSettings(name="synthetic", image_size=(6, 4), **more), classes=classes)


@pytest.mark.parametrize(("examples", "seen"), [(1, 24), (48, 48), (49, 72)])
def test_the_classes_are_counted_over_whole_batches_of_a_full_pipeline(examples, seen):
    dataset, rows = synthetic(), np.arange(24)
    found = preview.measure(dataset, 3, 32, rows, prefetch=2, examples=examples)
    assert found.examples == seen
    index = [train_indices(3, step, 32, rows, dataset.size)[0] for step in range(5, 5 + seen // 24)]
    labels = mix(np.concatenate(index), 0xC1A55) % np.uint64(10)
    assert found.counts.tolist() == [np.count_nonzero(labels == k) for k in range(10)]
    assert found.arrays == {"image": ("uint8", (6, 4, 3)), "label": ("int32", ())}
    assert found.images_per_second > 0
    assert found.images_per_cpu_second > 0


def test_large_batches_are_measured_in_part():
    found = preview.measure(synthetic(), 0, 1024, np.arange(1024), prefetch=1, examples=256)
    assert found.examples == 256


def batch(labels, mask=None, first=0):
    images = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    made = {"image": images, "label": np.array(labels)}
    return made if mask is None else {**made, "mask": np.array(mask)}


def test_pictures_are_the_first_ones_that_are_not_padding():
    batches = [batch([2, 0, 1], [True, False, True]), batch([1, 1], [True, True], first=10)]
    images, names = preview.pictures(iter(batches), 3, ("a", "b", "c"))
    assert images[:, 0, 0, 0].tolist() == [0, 2, 10]
    assert names == ["c", "b", "b"]


def test_a_short_stream_gives_what_it_has():
    images, names = preview.pictures(iter([batch([0, 1])]), 9, ("a", "b"))
    assert len(images) == 2
    assert names == ["a", "b"]


def test_vectors_are_named_after_their_largest_classes():
    vectors = np.array([[0, 1, 1], [0, 0, 0], [0.05, 0.9, 0.05]], np.float32)
    _, names = preview.pictures(iter([batch(vectors)]), 3, ("a", "b", "c"))
    assert names == ["b, c", "no label", "b"]


class Source:
    """Records of 10, 20, 10, 20, ... bytes, and an index of 1,000 bytes."""

    def memory_bytes(self):
        return 1000

    def fetch(self, indices):
        return [bytes(10 + 10 * (i % 2)) for i in indices], None


def test_the_memory_plan_adds_up():
    dataset = synthetic(prefetch=4)
    plan = preview.memory_plan(dataset.settings, {"train": dataset, "eval": dataset}, {"train": 8, "eval": 2}, 4)
    image = 6 * 4 * 3 + 4
    assert sum(plan.values()) == (8 + 2) * image * (4 + 3 + 3)
    object.__setattr__(dataset, "source", Source())
    with_source = preview.memory_plan(dataset.settings, {"train": dataset}, {"train": 8}, 4)
    assert sum(with_source.values()) == 8 * image * 10 + 1000 + 2 * 8 * 15
    assert with_source["train: index of the source"] == 1000
