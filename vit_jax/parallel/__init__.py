"""One device -> a pod: mesh, logical-axis rules, feeding, multi-process start-up."""

from vit_jax.parallel.automatic import LARGEST_FSDP, StateBytes, abstract_mesh, automatic_fsdp, automatic_mesh
from vit_jax.parallel.chips import CHIPS, Chip, chip_of
from vit_jax.parallel.compiled import keep_compiled
from vit_jax.parallel.compiler import PRESETS, CompilerSettings, check_compiler
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
from vit_jax.parallel.settings import AXES, BATCH_AXES, MeshSettings
from vit_jax.parallel.sharding import (
    batch_sharding,
    bytes_per_device,
    constrain_on,
    on_mesh,
    parameter_spec,
    replicated,
    state_shardings,
    undivided,
)
from vit_jax.parallel.topology import Topology, parse_topology, topology_devices

__all__ = [
    "AXES",
    "BATCH_AXES",
    "CHIPS",
    "LARGEST_FSDP",
    "PRESETS",
    "Chip",
    "CompilerSettings",
    "MeshSettings",
    "StateBytes",
    "Topology",
    "abstract_mesh",
    "automatic_fsdp",
    "automatic_mesh",
    "available_bytes",
    "barrier",
    "batch_parallelism",
    "batch_sharding",
    "bytes_per_device",
    "check_batch",
    "check_compiler",
    "chip_of",
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
    "parse_topology",
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
    "topology_devices",
    "undivided",
]
