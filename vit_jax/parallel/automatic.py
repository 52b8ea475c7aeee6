"""The mesh of a run whose config leaves it open: pure data parallel while that fits, then as little fsdp as needed."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh

from vit_jax.parallel.chips import chip_of
from vit_jax.parallel.mesh import count_slices, make_mesh
from vit_jax.parallel.settings import MeshSettings

# Share of a device's memory that parameters, optimizer state, average and gradients may take; the rest is for
# activations and for what the compiler needs.
STATE_SHARE = 1 / 3
# Compiled for v5e, L/16 in 256 parts (4 rows of a kernel each) had all-reduces in place of all gathers of parameters,
# each of the whole kernel; in up to 64 parts it had gathers.
LARGEST_FSDP = 64


def automatic_mesh(
    settings: MeshSettings, state_bytes: Callable[[Mesh], int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh for a state of this size.

    Where the settings leave `fsdp` open and `data` is -1, `fsdp` is the smallest divisor of the devices they share, up
    to 64, with which the state takes at most a third of a device's memory; if none does, the one with which it takes
    least. On devices whose memory is not known (CPUs, GPUs that `CHIPS` lacks) it is 1. The choice depends on the
    settings, the shapes, and the kind and number of devices alone.

    Args:
      settings: what is asked for.
      state_bytes: what parameters, gradients, optimizer state and average take on a device of a mesh.
      devices: by default all of the job.

    Raises:
      BadSetting: see `make_mesh`.
    """
    devices = list(jax.devices() if devices is None else devices)
    chip = chip_of(devices[0].device_kind)
    if settings.fsdp or settings.data != -1 or chip is None:
        return make_mesh(settings, devices)
    _, free, *_ = settings.sizes(len(devices), count_slices(devices))
    found = []
    for fsdp in (n for n in range(1, min(free, LARGEST_FSDP) + 1) if free % n == 0):
        mesh = make_mesh(dataclasses.replace(settings, fsdp=fsdp), devices)
        size = state_bytes(mesh)
        if size <= STATE_SHARE * chip.device_memory:
            return mesh
        found.append((size, fsdp, mesh))
    return min(found, key=lambda entry: entry[:2])[2]
