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
      replica: outermost; copies that talk over a slow network, one per TPU slice.
      data: copies of the parameters inside a slice; the batch is split.
      fsdp: the batch is split, and so are parameters and optimizer state along `embed`.
      tensor: heads, MLP and classes are split.
    """

    replica: int = 1
    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        free = [axis for axis in AXES if getattr(self, axis) == -1]
        if len(free) > 1:
            raise BadSetting(free[1], -1, f"only one axis may be -1, and {free[0]} already is")
        for axis in AXES:
            size = getattr(self, axis)
            if size < 1 and size != -1:
                raise BadSetting(axis, size, "must be at least 1, or -1 for the devices that are left")

    def sizes(self, devices: int) -> tuple[int, ...]:
        """The four sizes for this many devices.

        Raises:
          BadSetting: the sizes do not multiply to the number of devices.
        """
        given = {axis: getattr(self, axis) for axis in AXES}
        product = math.prod(size for size in given.values() if size != -1)
        free = next((axis for axis in AXES if given[axis] == -1), None)
        text = " x ".join(f"{axis} {size}" for axis, size in given.items())
        if devices % product or (free is None and product != devices):
            raise BadSetting("mesh", text, f"does not fit {devices} devices: the sizes must multiply to {devices}")
        if free is not None:
            given[free] = devices // product
        return tuple(given.values())
