"""How much of the hardware the step uses: model FLOPs and memory traffic against the peaks of the device table."""

import dataclasses
from typing import Any

import jax

from vit_jax import parallel
from vit_jax.models import Model, training_flops
from vit_jax.programs import costs, hlo


@dataclasses.dataclass(frozen=True)
class Utilisation:
    """What one device does in a step, and could do in a second.

    Attributes:
      chip: its name in the device table.
      flops: of the model, per device and step: three forward passes an image, whatever is recomputed.
      peak_flops: of the device, bfloat16, per second.
      bytes: that the compiled step reads from and writes to the device's memory.
      peak_bytes: of that memory, per second.
    """

    chip: str
    flops: float
    peak_flops: float
    bytes: float
    peak_bytes: float

    def shares(self, seconds: float) -> dict[str, float]:
        """`{"mfu", "memory_bandwidth"}` as shares of the peaks, for a step of so many seconds.

        `mfu` is the model FLOPs utilisation of arXiv 2204.02311, appendix B: what is recomputed does not count. The
        FLOPs of all matrix products and convolutions are, attention's included, without those of the classifier.
        """
        return {
            "mfu": self.flops / seconds / self.peak_flops,
            "memory_bandwidth": self.bytes / seconds / self.peak_bytes,
        }

    def describe(self) -> str:
        """A line for a person."""
        return f"device    {self.chip}: {self.flops / 1e12:.3f} model TFLOP and {self.bytes / 1e9:.2f} GB a step"


def utilisation(program: Any, model: Model, batch_size: int, mesh: jax.sharding.Mesh) -> Utilisation | None:
    """What the compiled step asks of each device; None for devices that the table lacks, such as CPUs.

    Args:
      program: the compiled step.
      model: that it trains.
      batch_size: global.
      mesh: of the job.
    """
    chip = parallel.chip_of(mesh.devices.flat[0].device_kind)
    if chip is None:
        return None
    moved = costs.count(hlo.parse(program.as_text()), mesh.size).memory_bytes
    return Utilisation(
        chip.name,
        training_flops(model, batch_size) / mesh.size,
        chip.flops / chip.devices,
        moved,
        chip.bandwidth / chip.devices,
    )
