"""Several sources as one: what each position holds, and what becomes of records and labels."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.data.mixture import BLOCK, Mixture
from vit_jax.data.sources import Source
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf


class Letters(Source):
    """Examples named after their source; labels go round, `late` ones are found by `parse`."""

    multi_label = False

    def __init__(self, letter, size, names, late=False):
        self._letter, self._size, self.label_names, self._late = letter, size, tuple(names), late
        self.plain = not late

    def __len__(self):
        return self._size

    def fetch(self, indices):
        records = [f"{self._letter}{i}:{i % len(self.label_names)}".encode() for i in indices]
        return records, np.full(len(indices), -1, np.int32) if self._late else self.labels(indices)

    def parse(self, record, label):
        if not self._late:
            return {"image": record, "label": label}
        number = tf.strings.to_number(tf.strings.split(record, ":")[1], tf.int32)
        return {"image": record, "label": number, "other": tf.zeros((3,))}

    def labels(self, indices):
        return (np.asarray(indices) % len(self.label_names)).astype(np.int32)

    def describe(self, index):
        return f"{self._letter} {index}"

    def memory_bytes(self):
        return 1000


class Sets(Letters):
    """Example i has the labels i and i + 1, going round."""

    multi_label = True

    def __init__(self, letter, size, names):
        super().__init__(letter, size, names, late=True)

    def fetch(self, indices):
        records, _ = super().fetch(indices)
        return records, np.full((len(indices), len(self.label_names)), -1, np.float32)

    def parse(self, record, label):
        number = tf.strings.to_number(tf.strings.split(record, ":")[1], tf.int32)
        pair = tf.stack([number, (number + 1) % len(self.label_names)])
        return {"image": record, "label": tf.reduce_sum(tf.one_hot(pair, len(self.label_names)), axis=0)}

    def labels(self, indices):
        size = len(self.label_names)
        return np.stack([np.eye(size, dtype=np.float32)[i % size] + np.eye(size)[(i + 1) % size] for i in indices])


def mixture(*sources, weights=None, union=False):
    return Mixture(sources, weights, union, "config.data.name", "a + b")


def contents(source, indices):
    """[(image, label)] through `fetch` and the traced `parse`, as the pipeline does it."""
    records, labels = source.fetch(np.asarray(indices))
    one = tf.function(lambda values: tuple(source.parse(*values).values()), autograph=False)
    found = [one((tf.constant(r), tf.constant(label))) for r, label in zip(records, labels, strict=True)]
    return [(image.numpy().decode(), label.numpy()) for image, label in found]


@pytest.mark.parametrize("late", [(False, False), (True, True), (False, True)])
def test_examples_follow_each_other(late):
    both = mixture(Letters("a", 3, "xy", late[0]), Letters("b", 4, "xy", late[1]))
    assert len(both) == 7
    assert both.label_names == ("x", "y")
    order = [6, 0, 3, 2, 2]
    found = contents(both, order)
    assert [image for image, _ in found] == ["b3:1", "a0:0", "b0:0", "a2:0", "a2:0"]
    assert [label for _, label in found] == [1, 0, 0, 0, 0]
    assert all(label.dtype == np.int32 for _, label in found)
    assert both.labels(np.array(order)).tolist() == [1, 0, 0, 0, 0]
    assert [both.describe(i) for i in (2, 3)] == ["a 2", "b 0"]
    assert both.memory_bytes() == 2000


@pytest.mark.parametrize("late", [False, True])
def test_classes_in_another_order_are_the_same_classes(late):
    both = mixture(Letters("a", 2, "xy"), Letters("b", 2, "yx", late))
    assert both.label_names == ("x", "y")
    assert [int(label) for _, label in contents(both, range(4))] == [0, 1, 1, 0]


@pytest.mark.parametrize("late", [False, True])
def test_united_classes_of_one_name_are_one(late):
    both = mixture(Letters("a", 3, "xyz"), Letters("b", 3, "wzx", late), union=True)
    assert both.label_names == ("x", "y", "z", "w")
    assert [int(label) for _, label in contents(both, range(6))] == [0, 1, 2, 3, 2, 0]
    assert both.labels(np.arange(6)).tolist() == [0, 1, 2, 3, 2, 0]


def test_other_classes_are_refused_unless_they_are_united():
    with pytest.raises(BadSetting) as error:
        mixture(Letters("a", 3, "xy"), Letters("b", 3, "xz"))
    fix = "parts 1 and 2 have different classes (2 and 2 classes; only one of them has 'y')"
    assert (
        str(error.value) == f"config.data.name = 'a + b': {fix}: set config.data.union_labels=True to have all of them"
    )
    with pytest.raises(BadSetting, match="part 2 has no classes"):
        mixture(Letters("a", 3, "xy"), Letters("b", 3, ""), union=True)


@pytest.mark.parametrize("late", [False, True])
def test_one_label_and_several_mix_as_vectors(late):
    both = mixture(Letters("a", 2, "xy", late), Sets("b", 3, "yzw"), union=True)
    assert both.multi_label
    assert both.label_names == ("x", "y", "z", "w")
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1]]
    found = contents(both, range(5))
    assert [label.tolist() for _, label in found] == expected
    assert [label.dtype for _, label in found] == [np.float32] * 5
    assert both.labels(np.arange(5)).tolist() == expected


def test_unlabelled_examples_stay_unlabelled():
    class Without(Letters):
        def labels(self, indices):
            return np.full(len(indices), -1, np.int32)

    for late in (False, True):  # the other source's kind decides how labels travel
        both = mixture(Letters("a", 1, "xy", late), Without("b", 1, "xy"))
        assert [int(label) for _, label in contents(both, range(2))] == [0, -1]
        assert both.labels(np.arange(2)).tolist() == [0, -1]


# order


def stream(source, seed, first, last):
    return source.order(seed, np.arange(first, last))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=4),
    seed=st.integers(0, 2**63 - 1),
    data=st.data(),
)
def test_weights_are_exact_in_each_block_and_each_source_has_whole_epochs(sizes, seed, data):
    weights = data.draw(st.lists(st.integers(1, 9), min_size=len(sizes), max_size=len(sizes)))
    both = mixture(*(Letters(str(i), size, "xy") for i, size in enumerate(sizes)), weights=weights)
    found = stream(both, seed, 0, 3 * BLOCK)
    owner = np.searchsorted(np.cumsum(sizes), found, side="right")
    shares = np.array(weights) / sum(weights) * BLOCK
    for block in np.split(owner, 3):
        assert abs(np.bincount(block, minlength=len(sizes)) - shares).max() < 1
    starts = np.cumsum([0, *sizes])
    for number, size in enumerate(sizes):
        own = found[owner == number] - starts[number]
        for epoch in range(len(own) // size):
            assert np.array_equal(np.sort(own[epoch * size : (epoch + 1) * size]), np.arange(size))


def test_without_weights_an_epoch_visits_every_example_of_all():
    both = mixture(Letters("a", 70, "xy"), Letters("b", 31, "xy"))
    for epoch in range(3):
        assert np.array_equal(np.sort(stream(both, 5, epoch * 101, (epoch + 1) * 101)), np.arange(101))


@settings(max_examples=25, deadline=None)
@given(
    step=st.integers(0, 10**9),
    batch_size=st.integers(1, 300),
    hosts=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
    weights=st.sampled_from([None, [0.7, 0.2, 0.1], [1, 1, 1], [1, 500, 3]]),
)
def test_any_rows_of_any_batch_are_read_directly(step, batch_size, hosts, seed, weights):
    both = mixture(*(Letters(n, size, "xy") for n, size in (("a", 97), ("b", 1000), ("c", 3))), weights=weights)
    whole = stream(both, seed, step * batch_size, (step + 1) * batch_size)
    for rows in np.array_split(np.arange(batch_size), hosts):
        assert np.array_equal(both.order(seed, step * batch_size + rows), whole[rows])
    for rows in (np.arange(batch_size)[host::hosts] for host in range(hosts)):
        assert np.array_equal(both.order(seed, step * batch_size + rows), whole[rows])


def test_blocks_and_seeds_differ_and_sources_are_well_mixed():
    both = mixture(Letters("a", 10**6, "xy"), Letters("b", 10**6, "xy"), weights=[3, 1])
    first, second, other = (
        stream(both, seed, start, start + BLOCK) < 10**6 for seed, start in ((0, 0), (0, BLOCK), (1, 0))
    )
    assert first.sum() == 768
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert abs(first[:256].sum() - 192) < 5 * np.sqrt(256 * 0.75 * 0.25)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 5 / np.sqrt(BLOCK)


def test_two_sources_of_one_size_do_not_follow_the_same_permutation():
    both = mixture(Letters("a", 500, "xy"), Letters("b", 500, "xy"), weights=[1, 1])
    found = stream(both, 0, 0, BLOCK)
    assert (found[found < 500][:400] == found[found >= 500][:400] - 500).sum() < 20


def test_a_weight_below_one_place_in_a_block_is_refused():
    with pytest.raises(BadSetting, match="each weight must be at least 1/1024 of their sum"):
        mixture(Letters("a", 3, "xy"), Letters("b", 3, "xy"), weights=[1, 1e-4])
