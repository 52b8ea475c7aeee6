"""One device -> a pod: mesh, logical-axis rules, feeding, multi-process start-up."""

from vit_jax.parallel.distributed import barrier, is_main, preempted_at, process_count, process_index, start, to_host
from vit_jax.parallel.feed import feed, host_rows, to_mesh
from vit_jax.parallel.mesh import batch_parallelism, check_batch, describe_mesh, make_mesh
from vit_jax.parallel.settings import MeshSettings
from vit_jax.parallel.sharding import (
    batch_sharding,
    constrain_on,
    parameter_spec,
    replicated,
    state_shardings,
    unsharded_bytes,
)

__all__ = [
    "MeshSettings",
    "barrier",
    "batch_parallelism",
    "batch_sharding",
    "check_batch",
    "constrain_on",
    "describe_mesh",
    "feed",
    "host_rows",
    "is_main",
    "make_mesh",
    "parameter_spec",
    "preempted_at",
    "process_count",
    "process_index",
    "replicated",
    "start",
    "state_shardings",
    "to_host",
    "to_mesh",
    "unsharded_bytes",
]
