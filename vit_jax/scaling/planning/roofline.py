"""How long a step takes: what it computes and moves, over what its chips can do.

With everything of one device, in seconds:

    compute   FLOPs, recomputation included / peak bfloat16 FLOP/s
    memory    bytes read and written / memory bandwidth
    links     for every collective, bytes sent / bandwidth of the links that its group has
    network   bytes sent to other slices / the chip's share of the data centre's network
    schedule  cycles that the TPU compiler expects its instructions to take / clock; without collectives

The first four are a roofline: they are assumed to overlap perfectly, so a step takes at least the longest of them. The
compiler's schedule knows what a roofline does not: padding of tiles, units other than the matrix units. The estimate is
the longest of all five; docs/plan.md compares it with published runs.

A group that spans one side of a torus has that side's two links, both ways round where the ring is closed; a group
larger than a side has those of more sides.
"""

import dataclasses
import math

from vit_jax.parallel import Chip, Topology
from vit_jax.scaling.planning.record import Compiled, Moved

# Sides that close to a ring: of 2D tori the full 16 (v5e, v6e) or 32 (v3), of 3D ones multiples of 4 (Google's pages).
_RING = {"v3": 32, "v5e": 16, "v6e": 16}


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of one step, see above; 0 where nothing is done or nothing is known."""

    compute: float
    memory: float
    links: float
    network: float
    schedule: float

    @property
    def estimate(self) -> float:
        """What a step takes."""
        return max(self.least, self.schedule)

    @property
    def least(self) -> float:
        """What it takes at least: the roofline."""
        return max(self.compute, self.memory, self.links, self.network)

    @property
    def bound(self) -> str:
        """What the roofline is made of: `compute`, `memory`, `links` or `network`."""
        return next(name for name in ("compute", "memory", "links", "network") if getattr(self, name) == self.least)


def step_time(compiled: Compiled, chip: Chip, topology: Topology) -> StepTime:
    """The roofline of a program that fits."""
    assert compiled.moved is not None
    moved = compiled.moved
    return StepTime(
        compute=compiled.flops / (topology.chips * chip.flops),
        memory=moved.memory * chip.devices / chip.bandwidth,
        links=_links(moved, chip, topology),
        network=moved.network * chip.devices / chip.network,
        schedule=moved.cycles / chip.clock if chip.clock else 0.0,
    )


def _links(moved: Moved, chip: Chip, topology: Topology) -> float:
    return sum(c.bytes * chip.devices / group_bandwidth(c.group, chip, topology.shape) for c in moved.collectives)


def group_bandwidth(group: int, chip: Chip, shape: tuple[int, ...]) -> float:
    """Bytes/s that a chip sends within a group of so many devices.

    Args:
      group: devices that take part.
      chip: of the slice.
      shape: of the slice, in chips.
    """
    if chip.axes == 1:
        return chip.link if group <= chip.host_chips else chip.network
    sides = sorted((side for side in shape if side > 1), reverse=True) or [1]
    chips = math.ceil(group / chip.devices)
    used = next((n for n in range(1, len(sides)) if math.prod(sides[:n]) >= chips), len(sides))
    return sum(chip.link * (2 if _closed(side, chip) else 1) for side in sides[:used])


def _closed(side: int, chip: Chip) -> bool:
    return side == _RING[chip.name] if chip.name in _RING else side % 4 == 0
