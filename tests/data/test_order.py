"""The order of examples: a stateless permutation of every epoch, the same for any batch size, resume or host count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.data import permute, train_indices
from vit_jax.data.order import eval_indices, example_seeds, mix, mixed, shuffled

SEEDS = st.integers(-(2**31), 2**63 - 1)
EPOCHS = st.integers(0, 10**6)


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return permute(seed, np.full(size, epoch), np.arange(size), size)


def stream(seed: int, batch_size: int, steps: int, size: int) -> np.ndarray:
    rows = np.arange(batch_size)
    return np.concatenate([train_indices(seed, step, batch_size, rows, size)[0] for step in range(steps)])


def reference_mix(*words: int) -> int:
    """`mix` in Python's own integers."""
    mask, state = 2**64 - 1, 0x9E3779B97F4A7C15
    for word in words:
        state = ((state ^ (word & mask)) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state


def reference_permute(seed: int, epoch: int, index: int, size: int) -> int:
    """`permute` of one index in Python's own integers."""
    half = 1
    while 4**half < size:
        half += 1
    while True:
        left, right = index >> half, index % 2**half
        for number in range(8):
            left, right = right, left ^ (reference_mix(right, reference_mix(seed, epoch, number)) % 2**half)
        index = (left << half) + right
        if index < size:
            return index


def test_mix_is_splitmix64():
    # The first output of the published generator for the seed 1234567.
    assert int(mix(0x9E3779B97F4A7C15 ^ 1234567)) == 6457827717110365317


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5000), seed=SEEDS, epoch=EPOCHS)
def test_every_epoch_is_a_permutation(size, seed, epoch):
    assert np.array_equal(np.sort(permutation(seed, epoch, size)), np.arange(size))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 10**12), seed=SEEDS, epoch=EPOCHS, data=st.data())
def test_permute_equals_a_plain_implementation(size, seed, epoch, data):
    index = data.draw(st.integers(0, size - 1))
    assert permute(seed, np.array([epoch]), np.array([index]), size)[0] == reference_permute(seed, epoch, index, size)


def test_many_indices_at_once_equal_one_at_a_time():
    epoch, index = np.array([0, 3, 3, 7, 0]), np.array([99, 0, 5, 5, 50])
    together = permute(4, epoch, index, 100)
    assert together.dtype == np.int64
    assert together.tolist() == [int(permute(4, e, i, 100)) for e, i in zip(epoch, index, strict=True)]


def test_permutations_differ_between_epochs_and_between_seeds():
    orders = {tuple(permutation(seed, epoch, 100)) for seed in (0, 1, -1, 2**40) for epoch in range(5)}
    assert len(orders) == 20
    assert tuple(range(100)) not in orders


def test_neighbours_in_a_permutation_are_unrelated():
    size = 100_000
    order = permutation(0, 0, size).astype(float)
    five_sigma = 5 / np.sqrt(size)
    for lag in (*range(1, 17), 64, 256, 1000):
        assert abs(np.corrcoef(order[:-lag], order[lag:])[0, 1]) < five_sigma, f"lag {lag}"
    assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < five_sigma


def test_every_example_comes_first_equally_often():
    epochs, size = 20_000, 10
    first = permute(0, np.arange(epochs), np.zeros(epochs, int), size)
    counts = np.bincount(first, minlength=size)
    assert abs(counts - epochs / size).max() < 5 * np.sqrt(epochs / size)


def test_a_data_set_of_300_million_needs_no_memory():
    size = 300_000_000
    index = np.array([0, 1, 2, 150_000_000, size - 1])
    found = permute(0, np.zeros(5, int), index, size)
    assert len(set(found)) == 5
    assert found.min() >= 0
    assert found.max() < size
    assert found.tolist() == [reference_permute(0, 0, int(i), size) for i in index]


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 200), batch_size=st.integers(1, 64), seed=SEEDS)
def test_each_epoch_visits_each_example_once_whatever_the_batch_size(size, batch_size, seed):
    found = stream(seed, batch_size, steps=-(-3 * size // batch_size), size=size)
    for epoch in range(3):
        visited = found[epoch * size : (epoch + 1) * size]
        assert np.array_equal(np.sort(visited), np.arange(size))


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 300), batch_size=st.integers(1, 50), seed=SEEDS)
def test_the_stream_does_not_depend_on_the_batch_size(size, batch_size, seed):
    assert np.array_equal(stream(seed, batch_size, 4, size), stream(seed, 1, 4 * batch_size, size))


@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
@pytest.mark.parametrize("interleaved", [False, True])
def test_any_split_of_rows_over_hosts_gives_the_same_global_batch(hosts, interleaved):
    rows = np.arange(30)
    shares = [rows[host::hosts] for host in range(hosts)] if interleaved else np.array_split(rows, hosts)
    for step in (0, 5):  # of 47 examples: step 5 holds the end of an epoch
        index, seeds = train_indices(1, step, 30, rows, 47)
        for share in shares:
            mine, my_seeds = train_indices(1, step, 30, share, 47)
            assert np.array_equal(mine, index[share])
            assert np.array_equal(my_seeds, seeds[share])


def test_a_batch_a_billion_steps_away_is_read_directly():
    size, batch_size, step = 1_281_167, 4096, 10**9
    rows = np.array([0, 17, 4095])
    index, seeds = train_indices(3, step, batch_size, rows, size)
    positions = [step * batch_size + int(row) for row in rows]
    assert index.tolist() == [reference_permute(3, p // size, p % size, size) for p in positions]
    assert np.array_equal(seeds, example_seeds(3, np.array(positions)))


def test_augmentation_seeds_are_distinct_for_positions_and_runs():
    positions = np.concatenate([np.arange(100_000), 10**12 + np.arange(1000)])
    seeds = np.concatenate([example_seeds(run, positions) for run in (0, 1)])
    assert seeds.dtype == np.int32
    assert seeds.shape == (202_000, 2)
    assert len(np.unique(seeds.view(np.int64))) == len(seeds)


def test_an_example_gets_new_augmentation_in_the_next_epoch():
    first, second = (train_indices(0, epoch, 10, np.arange(10), 10) for epoch in (0, 1))
    assert sorted(first[0]) == sorted(second[0])
    assert not set(map(tuple, first[1])) & set(map(tuple, second[1]))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 300), batch_size=st.integers(1, 70), hosts=st.integers(1, 4))
def test_evaluation_covers_each_example_once_in_order(size, batch_size, hosts):
    seen = []
    for number in range(-(-size // batch_size)):
        parts = [eval_indices(number, batch_size, r, size) for r in np.array_split(np.arange(batch_size), hosts)]
        index, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
        assert index.max() < size  # padding can be read, too
        seen += index[mask].tolist()
    assert seen == list(range(size))


# mixtures


def reference_mixed(seed: int, count: int, sizes: list[int], counts: list[int]) -> list[int]:
    """The first positions of `mixed`, written down one after the other."""
    found, taken, block = [], [0] * len(sizes), sum(counts)
    for position in range(count):
        slot = reference_permute(reference_mix(seed, 0xB10C), position // block, position % block, block)
        owner = 0
        while slot >= counts[owner]:
            slot -= counts[owner]
            owner += 1
        own, size = taken[owner], sizes[owner]
        index = reference_permute(reference_mix(seed, owner, 0x50CE), own // size, own % size, size)
        found.append(sum(sizes[:owner]) + index)
        taken[owner] += 1
    return found


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=4),
    start=st.integers(0, 100),
    seed=SEEDS,
)
def test_a_mixture_equals_a_plain_implementation(parts, start, seed):
    sizes, counts = map(list, zip(*parts, strict=True))
    expected = reference_mixed(seed, 150, sizes, counts)[start:]
    found = mixed(seed, np.arange(start, 150), sizes, counts)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@settings(max_examples=30, deadline=None)
@given(positions=st.lists(st.integers(0, 10**13), max_size=20), seed=SEEDS)
def test_positions_of_a_mixture_may_come_in_any_order_and_from_anywhere(positions, seed):
    arguments = ([1_281_167, 50_000, 7], [700, 300, 24])
    together = mixed(seed, np.array(positions, np.int64), *arguments)
    assert together.tolist() == [int(mixed(seed, np.array([p]), *arguments)[0]) for p in positions]


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 300), batch_size=st.integers(1, 50), seed=SEEDS)
def test_training_batches_hold_the_shuffled_stream(size, batch_size, seed):
    found = shuffled(seed, np.arange(4 * batch_size), size)
    assert np.array_equal(stream(seed, batch_size, 4, size), found)
