"""One device -> a pod: mesh, logical-axis rules, feeding, multi-process start-up."""

from vit_jax.parallel.compiled import keep_compiled
from vit_jax.parallel.distributed import (
    barrier,
    from_main,
    gather_text,
    is_main,
    preempted_at,
    process_count,
    process_index,
    shared_fate,
    start,
    to_host,
    together,
)
from vit_jax.parallel.feed import feed, host_rows, to_mesh
from vit_jax.parallel.memory import available_bytes, device_bytes, program_bytes
from vit_jax.parallel.mesh import batch_parallelism, check_batch, describe_mesh, make_mesh
from vit_jax.parallel.peers import end_job
from vit_jax.parallel.settings import MeshSettings
from vit_jax.parallel.sharding import (
    batch_sharding,
    bytes_per_device,
    constrain_on,
    on_mesh,
    parameter_spec,
    replicated,
    state_shardings,
)

__all__ = [
    "MeshSettings",
    "available_bytes",
    "barrier",
    "batch_parallelism",
    "batch_sharding",
    "bytes_per_device",
    "check_batch",
    "constrain_on",
    "describe_mesh",
    "device_bytes",
    "end_job",
    "feed",
    "from_main",
    "gather_text",
    "host_rows",
    "is_main",
    "keep_compiled",
    "make_mesh",
    "on_mesh",
    "parameter_spec",
    "preempted_at",
    "process_count",
    "process_index",
    "program_bytes",
    "replicated",
    "shared_fate",
    "start",
    "state_shardings",
    "to_host",
    "to_mesh",
    "together",
]
