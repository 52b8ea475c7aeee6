"""The mesh of a run whose config leaves it open: pure data parallel while that fits, then as little fsdp as needed."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from vit_jax.parallel.chips import chip_of
from vit_jax.parallel.mesh import count_slices, make_mesh
from vit_jax.parallel.settings import AXES, MeshSettings

# Share of a device's memory that parameters, optimizer state, average and gradients may take; the rest is for
# activations and for what the compiler needs.
STATE_SHARE = 1 / 3
# Compiled for v5e, L/16 in 256 parts (4 rows of a kernel each) had all-reduces in place of all gathers of parameters,
# each of the whole kernel; in up to 64 parts it had gathers.
LARGEST_FSDP = 64

# What a state takes on one device of a mesh; only the sizes of the mesh's axes count.
StateBytes = Callable[[AbstractMesh], int]


def abstract_mesh(sizes: Sequence[int]) -> AbstractMesh:
    """A mesh of these sizes without devices: for shapes and layouts."""
    return AbstractMesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def automatic_mesh(
    settings: MeshSettings, state_bytes: StateBytes, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh for a state of this size; its `fsdp` is that of `automatic_fsdp` where the settings leave it open.

    On devices whose memory is not known (CPUs, GPUs that `CHIPS` lacks) it is then 1.

    Args:
      settings: what is asked for.
      state_bytes: what parameters, gradients, optimizer state and average take on a device of a mesh.
      devices: by default all of the job.

    Raises:
      BadSetting: see `make_mesh`.
    """
    devices = list(jax.devices() if devices is None else devices)
    chip = chip_of(devices[0].device_kind)
    if settings.fsdp == 0 and settings.data == -1 and chip:
        slices = count_slices(devices)
        fsdp = automatic_fsdp(settings, len(devices), slices, chip.device_memory, state_bytes)
        settings = dataclasses.replace(settings, fsdp=fsdp)
    return make_mesh(settings, devices)


def automatic_fsdp(settings: MeshSettings, devices: int, slices: int, memory: float, state_bytes: StateBytes) -> int:
    """The smallest number of parts, up to 64, with which the state takes at most a third of a device's memory.

    Of those that divide the devices which `data` and `fsdp` share; if none does, the one with which it takes least. The
    choice depends on the settings, the shapes, and the kind and number of devices alone.

    Args:
      settings: with `data` -1.
      devices: of the job.
      slices: that they are in.
      memory: bytes of one device.
      state_bytes: what parameters, gradients, optimizer state and average take on a device of a mesh.

    Raises:
      BadSetting: the settings do not fit the devices.
    """
    replica, free, _, tensor = settings.sizes(devices, slices)
    found = []
    for fsdp in (n for n in range(1, min(free, LARGEST_FSDP) + 1) if free % n == 0):
        size = state_bytes(abstract_mesh((replica, free // fsdp, fsdp, tensor)))
        if size <= STATE_SHARE * memory:
            return fsdp
        found.append((size, fsdp))
    return min(found)[1]
