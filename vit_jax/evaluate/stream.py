"""Running a compiled function over a split, batch by batch."""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.data import Batch

_IN_FLIGHT = 2

Step = Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]


def evaluation_step(function: Step, mesh: Mesh, params: Any = None) -> Step:
    """`function`, compiled for global batches; its results lie whole on every device.

    Args:
      function: (params, batch) -> named arrays.
      mesh: of the job.
      params: the parameters' shardings, as arrays or `ShapeDtypeStruct`s; None leaves them to jit.
    """
    shardings = None if params is None else jax.tree.map(lambda leaf: leaf.sharding, params)
    inputs = (shardings, parallel.batch_sharding(mesh))
    return jax.jit(function, in_shardings=inputs, out_shardings=parallel.replicated(mesh))


def results(
    step: Step, params: Any, mesh: Mesh, batch_size: int, batches: Iterable[Batch]
) -> Iterator[dict[str, np.ndarray]]:
    """What `step` gives for each batch, fetched while later batches are computed.

    Args:
      step: from `evaluation_step`.
      params: its first argument.
      mesh: of the job.
      batch_size: global.
      batches: of the rows that this host reads, see `parallel.host_rows`.
    """
    pending: collections.deque[dict[str, jax.Array]] = collections.deque()
    rows = parallel.host_rows(mesh, batch_size)
    for batch in parallel.feed(mesh, batch_size, rows, batches):
        pending.append(step(params, batch))
        if len(pending) > _IN_FLIGHT:
            yield jax.tree.map(np.asarray, pending.popleft())
    while pending:
        yield jax.tree.map(np.asarray, pending.popleft())
