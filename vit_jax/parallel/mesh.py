"""One device, eight fake CPU devices, a GPU node, a TPU slice or several: all are a mesh of four named axes."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from vit_jax.errors import BadSetting
from vit_jax.parallel.settings import AXES, BATCH_AXES, MeshSettings


def make_mesh(settings: MeshSettings, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges `devices` (default: all of the job) as replica x data x fsdp x tensor.

    Raises:
      BadSetting: the sizes do not fit the devices, or `replica` is not a multiple of the slices.
    """
    devices = list(jax.devices() if devices is None else devices)
    slices = count_slices(devices)
    sizes = settings.sizes(len(devices), slices)
    if slices > 1:
        if sizes[0] % slices:
            raise BadSetting("mesh.replica", sizes[0], f"must be a multiple of the {slices} slices")
        inner = (sizes[0] // slices, *sizes[1:])
        array = mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1, 1), devices=devices)
    else:
        array = mesh_utils.create_device_mesh(sizes, devices=devices, allow_split_physical_axes=True)
    return Mesh(np.asarray(array), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def count_slices(devices: Sequence[jax.Device]) -> int:
    """Groups of devices that a slow network joins.

    Only TPU slices are: on GPUs `slice_index` counts nodes, which fsdp may well cross.
    """
    return len({getattr(device, "slice_index", 0) if device.platform == "tpu" else 0 for device in devices})


def batch_parallelism(mesh: Mesh) -> int:
    """Into how many parts the mesh splits a batch."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def check_batch(field: str, batch_size: int, mesh: Mesh, micro_batches: int = 1) -> None:
    """Raises BadSetting when the batch is not positive or does not divide, and says which sizes would."""
    if batch_size < 1:
        raise BadSetting(field, batch_size, "must be at least 1")
    unit = batch_parallelism(mesh) * micro_batches
    if batch_size % unit:
        below = batch_size // unit * unit
        near = [size for size in (below, below + unit) if size > 0] or [unit]
        parts = f"{batch_parallelism(mesh)} data-parallel devices"
        parts += f" x {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise BadSetting(field, batch_size, f"must be a multiple of {unit} ({parts}); {near} would work")


def describe_mesh(mesh: Mesh) -> str:
    """`8 cpu devices as data 4 x tensor 2, 1 process`."""
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1) or "one"
    kind = mesh.devices.flat[0].device_kind
    processes = len({device.process_index for device in mesh.devices.flat})
    plural = "es" if processes > 1 else ""
    return f"{mesh.size} {kind} device{'s' if mesh.size > 1 else ''} as {sizes}, {processes} process{plural}"
