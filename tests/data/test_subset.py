"""Parts of a split: seeded, nested, and read like a split of their own."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.data.sources import Source, TfdsSource
from vit_jax.data.subset import take_subset
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf

SEEDS = st.integers(0, 2**63 - 1)


class Numbers(Source):
    """Examples whose record is their index; counts the labels that are asked for."""

    multi_label = False

    def __init__(self, labels, classes=None, name=""):
        self._labels, self.name, self.asked = np.asarray(labels, np.int32), name, 0
        self.label_names = tuple(str(i) for i in range(classes or max(labels, default=0) + 1))

    def __len__(self):
        return len(self._labels)

    def fetch(self, indices):
        return [b"%d" % i for i in indices], self._labels[indices]

    def parse(self, record, label):
        return {"image": record, "label": label}

    def labels(self, indices):
        self.asked += len(indices)
        return self._labels[indices]

    def describe(self, index):
        return f"number {index}"

    def memory_bytes(self):
        return self._labels.nbytes


def zeros(size):
    return Numbers(np.zeros(size, int))


def indices(source):
    """The indices of a subset's examples in the whole."""
    return [int(record) for record in source.fetch(np.arange(len(source)))[0]]


@pytest.mark.parametrize(
    ("text", "size"),
    [("10%", 100), ("0.1%", 1), ("0.01%", 1), ("33.3%", 333), ("100%", 1000), ("7", 7), ("0.5k", 500), ("1_000", 1000)],
)
def test_a_subset_has_the_size_that_is_asked_for(text, size):
    found = indices(take_subset(zeros(1000), text, 0))
    assert len(set(found)) == len(found) == size
    assert 0 <= min(found) <= max(found) < 1000


def test_millions_cost_no_memory():
    class Huge(Numbers):
        def __len__(self):
            return 303_000_000

    source = Huge([0])
    parts = [take_subset(source, text, 0) for text in ("9M", "30M", "90M")]
    assert [len(part) for part in parts] == [9_000_000, 30_000_000, 90_000_000]
    assert all(part.memory_bytes() == source.memory_bytes() for part in parts)


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 2000), seed=SEEDS, data=st.data())
def test_smaller_subsets_lie_within_larger_ones(size, seed, data):
    smaller, larger = sorted(data.draw(st.lists(st.integers(1, size), min_size=2, max_size=2)))
    source = zeros(size)
    some, more = (set(indices(take_subset(source, str(n), seed))) for n in (smaller, larger))
    assert some <= more
    assert len(some) == smaller


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 2000), seed=SEEDS)
def test_fractions_are_nested(size, seed):
    parts = [set(indices(take_subset(zeros(size), text, seed))) for text in ("1%", "10%", "30%", "100%")]
    assert parts[0] <= parts[1] <= parts[2] <= parts[3] == set(range(size))


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 300), part=st.integers(1, 100), seed=st.integers(0, 2**31))
def test_each_epoch_of_a_subset_visits_each_of_its_examples_once(size, part, seed):
    source = take_subset(zeros(size), f"{part}%", 1)
    count = len(source)
    for epoch in range(3):
        position = np.arange(epoch * count, (epoch + 1) * count)
        assert np.array_equal(np.sort(source.order(seed, position)), np.arange(count))


def test_the_seed_alone_decides():
    first, again, other = (indices(take_subset(zeros(1000), "10%", seed)) for seed in (0, 0, 1))
    assert first == again
    assert 0 < len(set(first) & set(other)) < 30  # 10 are expected


def test_a_subset_is_spread_over_the_whole():
    counts = np.bincount(np.array(indices(take_subset(zeros(10_000), "10%", 0))) // 1000, minlength=10)
    assert abs(counts - 100).max() < 50


def test_everything_of_an_example_comes_from_the_same_one():
    source = take_subset(Numbers(np.arange(100) % 7), "13", 0)
    there = indices(source)
    order = np.array([5, 0, 12, 5])
    records, labels = source.fetch(order)
    assert [int(r) for r in records] == [there[i] for i in order]
    assert labels.tolist() == source.labels(order).tolist() == [there[i] % 7 for i in order]
    assert source.describe(5) == f"number {there[5]}"
    assert source.parse(tf.constant(b"x"), tf.constant(3))["label"] == 3


@pytest.mark.parametrize("text", ["", "ten", "0", "0%", "101%", "-5", "1.5", "0.0001k", "5 per", "0 per class", "0.1"])
def test_another_text_is_refused(text):
    with pytest.raises(BadSetting) as error:
        take_subset(zeros(10), text, 0)
    assert str(error.value).startswith(f"config.data.subset = {text!r}: ")


def test_more_than_there_is_is_refused():
    with pytest.raises(BadSetting, match=r"config\.data\.subset = '1001': the split has only 1,000 examples"):
        take_subset(zeros(1000), "1001", 0)


# so many of each class


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=400), each=st.integers(1, 9), seed=SEEDS)
def test_each_class_has_its_number_or_all_that_there_are(labels, each, seed):
    source = take_subset(Numbers(labels, classes=7), f"{each} per class", seed)
    found = indices(source)
    assert len(set(found)) == len(found)
    counts = np.bincount(np.array(labels)[found], minlength=7)
    assert np.array_equal(counts, np.minimum(np.bincount(labels, minlength=7), each))


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=400), seed=SEEDS)
def test_fewer_of_each_class_lie_within_more(labels, seed):
    parts = [set(indices(take_subset(Numbers(labels), f"{each} per class", seed))) for each in (1, 5, 10)]
    assert parts[0] <= parts[1] <= parts[2]


def test_unlabelled_examples_are_left_out():
    source = take_subset(Numbers([-1, 0, -1, 1, 1], classes=2), "2 per class", 0)
    assert sorted(indices(source)) == [1, 3, 4]


def test_only_as_many_labels_are_read_as_it_takes():
    source = Numbers(np.arange(1_000_000) % 10)
    assert len(take_subset(source, "5 per class", 0)) == 50
    assert source.asked < 10_000


def test_what_was_chosen_is_remembered_by_the_name_of_the_source(tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path))
    labels = [0, 1, 1, 2, 1, 0]  # one class has too few
    first = Numbers(labels, name="a")
    chosen = indices(take_subset(first, "2 per class", 0))
    assert first.asked == 6
    again, other, unnamed = Numbers(labels, name="a"), Numbers(labels, name="b"), Numbers(labels)
    for source in (again, other, unnamed):
        assert indices(take_subset(source, "2 per class", 0)) == chosen
    assert [source.asked for source in (again, other, unnamed)] == [0, 6, 6]
    assert len(take_subset(again, "1 per class", 0)) == 3
    assert again.asked == 6


@pytest.mark.parametrize(("multi_label", "names"), [(True, ("a",)), (False, ())])
def test_classes_need_one_label_an_image(multi_label, names):
    source = zeros(5)
    source.multi_label, source.label_names = multi_label, names
    with pytest.raises(BadSetting, match="= '1 per class': needs a data set with one label an image"):
        take_subset(source, "1 per class", 0)


def test_few_shot_of_a_tfds_set(digits_dir):
    source = TfdsSource("digits", str(digits_dir), "train[:90%]")
    few = take_subset(source, "3 per class", 0)
    assert np.bincount(few.labels(np.arange(len(few)))).tolist() == [3] * 10
