"""From the rows a host reads to global arrays on the mesh."""

import collections
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from vit_jax.parallel.sharding import batch_sharding


def host_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Which rows of a global batch this process must read: ascending int64 indices.

    Hosts that share rows (tensor axes across hosts) each read them.
    """
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    rows = {row for index in slices if index is not None for row in range(*index[0].indices(batch_size))}
    return np.array(sorted(rows), np.int64)


def to_mesh(mesh: Mesh, batch_size: int, rows: np.ndarray, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Global arrays of `batch_size` rows from this host's rows; each device gets exactly its own.

    Args:
      mesh: of the job.
      batch_size: global.
      rows: from `host_rows`.
      local: arrays whose first axis runs along `rows`.
    """
    sharding = batch_sharding(mesh)

    def put(array: np.ndarray) -> jax.Array:
        def shard(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None  # only asked for addressable devices
            start, stop, _ = index[0].indices(batch_size)
            first = int(np.searchsorted(rows, start))
            return array[first : first + stop - start]

        return jax.make_array_from_callback((batch_size, *array.shape[1:]), sharding, shard)

    return {name: put(array) for name, array in local.items()}


def feed(
    mesh: Mesh, batch_size: int, rows: np.ndarray, batches: Iterable[Mapping[str, np.ndarray]], ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Yields global batches, keeping `ahead` of them on their way to the devices (transfers are asynchronous)."""
    queue: collections.deque[dict[str, jax.Array]] = collections.deque()
    for local in batches:
        queue.append(to_mesh(mesh, batch_size, rows, local))
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue
