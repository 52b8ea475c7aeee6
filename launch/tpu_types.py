"""TPU slices by name: chips, hosts, topology, and what Google calls them.

Sources: Cloud TPU documentation (TPU types and topologies; TPU software versions) and GKE's (TPUs in GKE: node labels).
"""

import dataclasses
import math
import re
from collections.abc import Callable

from vit_jax.errors import BadSetting, did_you_mean


@dataclasses.dataclass(frozen=True)
class Kind:
    """A generation of TPUs.

    Attributes:
      name: first part of accelerator types.
      cores: what the number in an accelerator type counts for each chip: TensorCores, or 1 where it counts chips.
      dimensions: of its topologies.
      lone_host: most chips that one TPU VM has; a slice of more consists of hosts with four chips.
      runtime: default software version of TPU VMs; empty where the Cloud TPU API does not offer the chip.
      gke: value of the node label cloud.google.com/gke-tpu-accelerator; empty where GKE does not.
    """

    name: str
    cores: int
    dimensions: int
    lone_host: int
    runtime: str
    gke: str


KINDS = {
    "v2": Kind("v2", 2, 2, 4, "tpu-ubuntu2204-base", ""),
    "v3": Kind("v3", 2, 2, 4, "tpu-ubuntu2204-base", ""),
    "v4": Kind("v4", 2, 3, 4, "tpu-ubuntu2204-base", "tpu-v4-podslice"),
    "v5e": Kind("v5litepod", 1, 2, 8, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice"),
    "v5p": Kind("v5p", 2, 3, 4, "v2-alpha-tpuv5", "tpu-v5p-slice"),
    "v6e": Kind("v6e", 1, 2, 8, "v2-alpha-tpuv6e", "tpu-v6e-slice"),
    "tpu7x": Kind("tpu7x", 2, 3, 4, "", "tpu7x"),
}
HOST = 4  # chips of a host in a slice of several

# The topology a number of chips means; others, such as 4x4x12, have to be named.
FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
DEEP = {
    4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8",
    1024: "8x8x16", 2048: "8x16x16", 4096: "16x16x16",
}  # fmt: skip

_BY_NAME = {**{kind.name: kind for kind in KINDS.values()}, **KINDS}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are joined by their own network."""

    kind: Kind
    chips: int
    topology: str

    @property
    def accelerator_type(self) -> str:
        """Google's name, such as `v5litepod-256`."""
        return f"{self.kind.name}-{self.chips * self.kind.cores}"

    @property
    def hosts(self) -> int:
        """TPU VMs of the slice."""
        return 1 if self.chips <= self.kind.lone_host else self.chips // HOST


def by_type(text: str, field: str) -> Slice:
    """The slice of an accelerator type, such as `v5litepod-256`, `v5e-256` or `v4-32`.

    Raises:
      BadSetting: naming `field`.
    """
    name, _, number = text.lower().rpartition("-")
    kind = _kind(name, text, field, lambda name, kind: f"{name}-{8 * kind.cores}")
    chips = int(number) / kind.cores if number.isdigit() else 0
    usual = FLAT if kind.dimensions == 2 else DEEP
    if kind.lone_host > HOST and chips not in usual:
        sizes = ", ".join(f"{kind.name}-{n * kind.cores}" for n in usual)
        raise BadSetting(field, text, f"no usual size; there are {sizes}")
    if chips < 1 or (chips > 1 and chips % HOST):
        raise BadSetting(field, text, f"must end with a multiple of {HOST * kind.cores}")
    return Slice(kind, int(chips), usual.get(int(chips), ""))


def by_topology(text: str, field: str) -> Slice:
    """The slice of a topology, such as `v5e:16x16` or `v5p:4x4x12`.

    Raises:
      BadSetting: naming `field`.
    """
    name, _, shape = text.lower().partition(":")

    def example(name: str, kind: Kind) -> str:
        return f"{name}:{'x'.join(['4'] * kind.dimensions)}"

    kind = _kind(name, text, field, example)
    if not re.fullmatch("x".join(["[1-9][0-9]*"] * kind.dimensions), shape):
        raise BadSetting(field, text, f"a topology of {name} has {kind.dimensions} numbers")
    chips = math.prod(int(side) for side in shape.split("x"))
    if chips > 1 and chips % HOST:
        raise BadSetting(field, text, f"{chips} chips make no whole hosts of {HOST}")
    return Slice(kind, chips, shape)


def _kind(name: str, text: str, field: str, example: Callable[[str, Kind], str]) -> Kind:
    if name not in _BY_NAME:
        examples = ", ".join(example(known, kind) for known, kind in KINDS.items())
        raise BadSetting(field, text, f"unknown TPU; {did_you_mean(name, KINDS)}; for example {examples}")
    return _BY_NAME[name]
