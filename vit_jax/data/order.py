"""Which example stands at which place of the stream: a pure function of (seed, position).

No shuffle buffer and no state: batch k of a run is computed from (seed, k, batch size) alone, so a run resumes at any
step in constant time, and the global batch does not depend on how many hosts read it.
"""

from collections.abc import Sequence

import numpy as np

_ROUNDS = 8
_U64 = np.uint64


def mix(*words: np.ndarray | int) -> np.ndarray:
    """Hashes equally shaped integers to uint64 (splitmix64's finalizer, absorbed word by word)."""
    with np.errstate(over="ignore"):
        state = np.asarray(0x9E3779B97F4A7C15, _U64)
        for word in words:
            state = state ^ np.asarray(word).astype(_U64)
            state = (state + _U64(0x9E3779B97F4A7C15)).astype(_U64)
            state = (state ^ (state >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> _U64(27))) * _U64(0x94D049BB133111EB)
            state = state ^ (state >> _U64(31))
    return state


def permute(seed: int, epoch: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """The `index`-th element of the permutation of `range(size)` that belongs to (seed, epoch).

    A balanced Feistel network of eight rounds over the next even power of two, walked until it lands below `size`
    (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): a bijection, in O(1) memory.

    Args:
      seed: of the run.
      epoch: int array, one permutation each.
      index: int array of the same shape, 0 <= index < size.
      size: number of examples.

    Returns:
      int64 array of the same shape.
    """
    half = _U64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = (_U64(1) << half) - _U64(1)
    keys = [mix(seed, epoch, r) for r in range(_ROUNDS)]

    def feistel(x: np.ndarray, where: np.ndarray) -> np.ndarray:
        left, right = x >> half, x & mask
        for key in keys:
            left, right = right, left ^ (mix(right, key[where]) & mask)
        return (left << half) | right

    value = np.array(index, _U64)
    outside = np.ones(value.shape, bool)
    while outside.any():
        value[outside] = feistel(value[outside], outside)
        outside = value >= size
    return value.astype(np.int64)


def shuffled(seed: int, position: np.ndarray, size: int) -> np.ndarray:
    """The examples, int64, at these positions of the endless stream of `seed`: one permutation after the other."""
    return permute(seed, position // size, position % size, size)


def mixed(seed: int, position: np.ndarray, sizes: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """What stands at these positions of a mixture of several sources.

    The stream is made of blocks of `sum(counts)` positions. Each block has its own permutation and exactly `counts[i]`
    examples of source i, and the examples of one source, read in order, are its own `shuffled` stream: so each source
    has its own epochs, which visit each of its examples once.

    Args:
      seed: of the run.
      position: int array (n,).
      sizes: examples of each source.
      counts: examples of each source in a block.

    Returns:
      int64 (n,): indices into the sources laid end to end.
    """
    block_size, ends = sum(counts), np.cumsum(counts)
    blocks, which = np.unique(position // block_size, return_inverse=True)
    places = np.broadcast_to(np.arange(block_size), (len(blocks), block_size))
    slots = permute(int(mix(seed, 0xB10C)), np.broadcast_to(blocks[:, None], places.shape), places, block_size)
    owner = np.searchsorted(ends, slots, side="right")  # of each place of the blocks needed
    found = np.empty(len(position), np.int64)
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        mine = owner == number
        rank = blocks[:, None] * count + np.cumsum(mine, axis=1) - 1  # in the source's own stream
        rows = np.flatnonzero(mine[which, position % block_size])
        own = rank[which[rows], position[rows] % block_size]
        found[rows] = sum(sizes[:number]) + shuffled(int(mix(seed, number, 0x50CE)), own, size)
    return found


def train_indices(seed: int, step: int, batch_size: int, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What the rows of training batch `step` (counted from 0) hold.

    Epochs follow each other without a gap: a batch may hold the end of one and the start of the next, and every epoch
    visits each example exactly once.

    Args:
      seed: of the run.
      step: number of the batch.
      batch_size: global.
      rows: which rows of the global batch are asked for.
      size: examples in the split.

    Returns:
      (int64 example indices, int32 augmentation seeds of shape (rows, 2)).
    """
    position = np.int64(step) * batch_size + rows
    return shuffled(seed, position, size), example_seeds(seed, position)


def example_seeds(seed: int, position: np.ndarray) -> np.ndarray:
    """Augmentation seeds, int32 of shape (n, 2), one for each position of the stream."""
    hashed = mix(seed, position, 0x5EED)
    return np.stack([hashed >> _U64(32), hashed & _U64(0xFFFFFFFF)], axis=-1).astype(np.uint32).view(np.int32)


def eval_indices(batch: int, batch_size: int, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Evaluation batch `batch`: (int64 indices in file order, bool mask); rows past the end are masked repeats."""
    position = np.int64(batch) * batch_size + rows
    mask = position < size
    return np.where(mask, position, 0), mask
