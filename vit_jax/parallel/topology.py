"""What a person calls a group of accelerators, and the devices it stands for, whether they are here or not."""

import dataclasses
import importlib.util
import math
import re
from typing import Any

import jax
from jax.experimental.topologies import get_topology_desc

from vit_jax.errors import BadSetting, UserError
from vit_jax.parallel.chips import CHIPS

# Slices as products call them: the number counts cores for these, chips for the others.
_COUNTS_CORES = ("v3", "v4", "v5p", "tpu7x")
_ALIASES = {"v5litepod": "v5e", "v5lite": "v5e", "v5": "v5p", "v6": "v6e", "v7x": "tpu7x", "trillium": "v6e"}
_FLAT = ("v3", "v5e", "v6e")  # tori of two dimensions
_LIBTPU_NAMES = {"v5p": "v5"}
_LARGEST = {"v3": 1024, "v4": 4096, "v5e": 256, "v5p": 6144, "v6e": 256, "tpu7x": 9216}  # chips of one slice
_FORM = "write v5e:16x16, v4:4x4x8, a name such as v5litepod-256, v4-64 or v5p-128, or gpu:8 or cpu:8"


@dataclasses.dataclass(frozen=True)
class Topology:
    """A group of accelerators.

    Attributes:
      platform: `tpu`, `gpu` or `cpu`.
      chip: of TPUs, in `CHIPS`; empty for others, whose devices say it.
      shape: of one TPU slice, in chips; (devices,) of others.
      slices: how many, joined by the data centre's network.
    """

    platform: str
    chip: str
    shape: tuple[int, ...]
    slices: int = 1

    def __str__(self) -> str:
        name = f"{self.chip or self.platform}:{'x'.join(map(str, self.shape))}"
        return f"{self.slices} x {name}" if self.slices > 1 else name

    @property
    def chips(self) -> int:
        """Of all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """JAX devices of all slices."""
        return self.chips * (CHIPS[self.chip].devices if self.chip else 1)


def parse_topology(text: str, slices: int = 1) -> Topology:
    """Reads `v5e:16x16`, `v5litepod-256`, `v4-64`, `gpu:8` or `cpu:8`.

    Raises:
      BadSetting: another text, or a slice that no one sells.
    """
    name, rest = _split(text)
    if slices < 1:
        raise BadSetting("--num_slices", slices, "must be at least 1")
    if name in ("cpu", "gpu"):
        if slices > 1 or len(rest) != 1:
            raise BadSetting("--topology", text, f"slices are of TPUs; write {name}:8")
        return Topology(name, "", rest)
    chip = _ALIASES.get(name, name)
    if chip not in _LARGEST:
        raise BadSetting("--topology", text, f"TPUs are {', '.join(_LARGEST)}; {_FORM}")
    shape = rest if ":" in text else _shape(text, chip, rest[0])
    if len(shape) != (2 if chip in _FLAT else 3):
        raise BadSetting("--topology", text, f"slices of {chip} have {2 if chip in _FLAT else 3} sides; {_FORM}")
    if math.prod(shape) > _LARGEST[chip]:
        raise BadSetting("--topology", text, f"one slice of {chip} has at most {_LARGEST[chip]:,} chips")
    return Topology("tpu", chip, shape, slices)


def _split(text: str) -> tuple[str, tuple[int, ...]]:
    """`v5e:16x16` -> (`v5e`, (16, 16)); `v4-64` -> (`v4`, (64,))."""
    found = re.fullmatch(r"(?P<name>\w+)(?::(?P<shape>\d+(?:x\d+)*)|-(?P<size>\d+))", text.strip().lower())
    numbers = tuple(int(n) for n in (found["shape"] or found["size"]).split("x")) if found else ()
    if not found or min(numbers) < 1:
        raise BadSetting("--topology", text, _FORM)
    return found["name"], numbers


def _shape(text: str, chip: str, size: int) -> tuple[int, ...]:
    """The usual shape of a slice of this size: its sides double in turn."""
    cores = CHIPS[chip].cores if chip in _COUNTS_CORES else 1
    chips = size // cores
    if size % cores or chips & (chips - 1) or not chips:
        raise BadSetting("--topology", text, f"has no usual shape: write it as {chip}:<side>x<side>")
    doublings = chips.bit_length() - 1
    if chip in _FLAT:
        return 2 ** (doublings // 2), 2 ** (doublings - doublings // 2)
    if chips == 4:
        return 2, 2, 1  # a host
    return 2 ** (doublings // 3), 2 ** ((doublings + 1) // 3), 2 ** ((doublings + 2) // 3)


def topology_devices(topology: Topology) -> list[Any]:
    """The devices: described ones of a TPU, which only a compiler can use, or those of this process.

    Raises:
      UserError: libtpu is missing, refuses the shape, or this process has too few devices.
    """
    if topology.platform == "tpu":
        return _described(topology)
    try:
        found = jax.devices(topology.platform)
    except RuntimeError:
        found = []
    if len(found) < topology.devices:
        fix = "only TPUs can be planned for without having them"
        raise UserError(f"--topology={topology}: this machine has {len(found)} such devices, and {fix}")
    return found[: topology.devices]


def _described(topology: Topology) -> list[Any]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("the compiler for TPUs is missing: pip install '.[tpu]' (no TPU is needed)")
    options: dict[str, Any] = {}
    if topology.chip == "v4":
        options["chip_config_name"] = "megacore"  # both cores of a chip as one device, as on real slices
    if topology.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    name = f"{_LIBTPU_NAMES.get(topology.chip, topology.chip)}:{'x'.join(map(str, topology.shape))}"
    try:
        return list(get_topology_desc(platform="tpu", topology_name=name, **options).devices)
    except Exception as error:  # whatever the plugin raises
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"--topology={topology}: the compiler for TPUs does not know this slice ({reason})") from None
