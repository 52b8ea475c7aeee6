"""Sums and gathers over all devices of the job: whether they are right, and how fast."""

import time

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vit_jax.doctor.findings import Finding

_BYTES = {"cpu": 2**22}  # that each device contributes
_OTHER_BYTES = 2**26
_ROUNDS = 5


def look_at_collectives() -> Finding:
    """Adds up and gathers one array of each device, and compares with what must come out."""
    mesh = Mesh(np.array(jax.devices()), ("all",))
    count = mesh.size
    length = _BYTES.get(jax.devices()[0].platform, _OTHER_BYTES) // 4
    split, whole = NamedSharding(mesh, PartitionSpec("all")), NamedSharding(mesh, PartitionSpec())
    numbered = np.broadcast_to(np.arange(1, count + 1, dtype=np.float32)[:, None], (count, length))
    values = jax.make_array_from_callback(numbered.shape, split, lambda index: numbered[index])  # a row on each device
    add = jax.jit(lambda x: x.sum(axis=0), out_shardings=whole)
    gather = jax.jit(lambda x: x, out_shardings=whole)
    wrong = _wrong("the sum", add(values), np.full(1, count * (count + 1) / 2))
    wrong = wrong or _wrong("the gathered array", gather(values[:, :1]), np.arange(1, count + 1)[:, None])
    seconds = _best(add, values)
    # Each device sends and receives 2 (n - 1) / n of its array in a ring.
    rate = 2 * (count - 1) / count * 4 * length / seconds
    numbers = {"devices": count, "all_reduce_bytes": 4 * length, "all_reduce_seconds": seconds}
    if count == 1:
        return Finding("collectives", "one device: none needed", wrong, numbers)
    found = f"all-reduce over {count} devices: {rate / 2**30:.2f} GiB/s per device"
    return Finding("collectives", found, wrong, {**numbers, "bytes_per_second_per_device": rate})


def _wrong(what: str, array: jax.Array, expected: np.ndarray) -> str:
    """A complaint about the first device whose copy is not as expected; empty if there is none."""
    for shard in array.addressable_shards:
        if not np.array_equal(np.asarray(shard.data), np.broadcast_to(expected, array.shape)):
            return f"{what} over all devices is wrong on {shard.device}: run the job without this host"
    return ""


def _best(function, values: jax.Array) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        jax.block_until_ready(function(values))
        times.append(time.perf_counter() - began)
    return min(times)
