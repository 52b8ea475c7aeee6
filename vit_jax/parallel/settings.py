"""What `config.mesh` may say."""

import dataclasses
import math

from vit_jax.errors import BadSetting

AXES = ("replica", "data", "fsdp", "tensor")
BATCH_AXES = ("replica", "data", "fsdp")


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """Sizes of the mesh axes; one may be -1 and takes the devices that are left.

    Attributes:
      replica: outermost; copies that talk over a slow network. 0 is one for each TPU slice.
      data: copies of the parameters inside a slice; the batch is split.
      fsdp: the batch is split, and so are parameters and optimizer state along `embed`. 0 is as few parts as leave room
        for activations, see `vit_jax.parallel.automatic_mesh`; where no axis is -1, what is left.
      tensor: heads, MLP, patch embedding and classes are split.
    """

    replica: int = 0
    data: int = -1
    fsdp: int = 0
    tensor: int = 1

    def __post_init__(self) -> None:
        free = [axis for axis in AXES if getattr(self, axis) == -1]
        if len(free) > 1:
            raise BadSetting(free[1], -1, f"only one axis may be -1, and {free[0]} already is")
        for axis in AXES:
            size = getattr(self, axis)
            automatic = axis in ("replica", "fsdp")
            if size < -1 or (size == 0 and not automatic):
                fix = "must be at least 1, or -1 for the devices that are left"
                raise BadSetting(axis, size, fix + (", or 0 for automatic" if automatic else ""))

    def sizes(self, devices: int, slices: int = 1) -> tuple[int, ...]:
        """The four sizes for this many devices. An automatic `fsdp` is 1, or what is left where no axis is -1.

        Raises:
          BadSetting: the sizes do not multiply to the number of devices.
        """
        given = {axis: getattr(self, axis) for axis in AXES}
        given["replica"] = given["replica"] or slices
        given["fsdp"] = given["fsdp"] or (1 if -1 in given.values() else -1)
        product = math.prod(size for size in given.values() if size != -1)
        free = next((axis for axis in AXES if given[axis] == -1), None)
        text = " x ".join(f"{axis} {size}" for axis, size in given.items())
        if devices % product or (free is None and product != devices):
            raise BadSetting("mesh", text, f"does not fit {devices} devices: the sizes must multiply to {devices}")
        if free is not None:
            given[free] = devices // product
        return tuple(given.values())
