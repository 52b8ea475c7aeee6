"""Accelerators as data: what plans, and the automatic mesh, know of them."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator. All figures are of one chip, which JAX may see as two devices.

    Attributes:
      name: as `--topology` has it.
      kinds: what JAX calls its devices (`device_kind`).
      flops: peak bfloat16 FLOP/s.
      memory: bytes that programs can use.
      bandwidth: of that memory, bytes/s.
      axes: dimensions of the torus that links make, two links each; 1 for a switch that joins all chips of a host.
      link: bytes/s of one link in one direction; of a switch, of a chip's way to it.
      network: a chip's share of the network between slices or hosts, bytes/s in one direction.
      devices: JAX devices on a chip.
      cores: on a chip, as papers and prices count them.
      host_chips: chips of a host.
      host_cpus: virtual CPUs of a host; 0 where hosts differ.
      host_memory: bytes of a host; 0 where hosts differ.
      clock: cycles/s that the compiler's estimates are in; 0 where it makes none, or where the unit is not known.
    """

    name: str
    kinds: tuple[str, ...]
    flops: float
    memory: float
    bandwidth: float
    axes: int
    link: float
    network: float
    devices: int
    cores: int
    host_chips: int
    host_cpus: int
    host_memory: float
    clock: float

    @property
    def device_memory(self) -> float:
        """Bytes that programs can use on one JAX device."""
        return self.memory / self.devices


# TPUs: FLOP/s, bandwidth, chips a host, and CPUs and memory of its TPU VM: Google's page of each version
# (docs.cloud.google.com/tpu/docs/v3, v4, v5e, v5p, v6e, tpu7x). Memory: what libtpu 0.0.42.1 says is available when it
# refuses a program that is too large, times the devices of a chip. Links and network: "How to scale your model"
# (jax-ml.github.io/scaling-book, TPU specs). Clock: peak / (2 x 128 x 128 x matrix units of that size: 4 in v3 and v5e,
# 8 in v4 and v5p, 16 in v6e); of tpu7x it is not public.
# GPUs: NVIDIA's data sheets (dense bfloat16; half of NVLink's two-way figure). Memory: three quarters of what the
# driver reports, JAX's preallocation. Network: one 400 Gbit/s adapter a GPU (200 for A100), as in DGX machines.
_TABLE = (
    # name, kinds, TFLOP/s, memory GiB, bandwidth GB/s, axes, link GB/s, network GB/s, devices, cores,
    #   chips / CPUs / memory GB of a host, clock GHz
    ("v3", ("TPU v3",), 123, 2 * 15.48, 900, 2, 100, 6.25, 2, 2, 4, 96, 335, 0.94),
    ("v4", ("TPU v4",), 275, 30.75, 1228, 3, 45, 6.25, 1, 2, 4, 240, 407, 1.05),
    ("v5e", ("TPU v5 lite", "TPU v5e"), 197, 15.75, 819, 2, 45, 3.125, 1, 1, 4, 112, 192, 1.5),
    ("v5p", ("TPU v5", "TPU v5p"), 459, 95.74, 2765, 3, 90, 6.25, 1, 2, 4, 208, 448, 1.75),
    ("v6e", ("TPU v6 lite", "TPU v6e"), 918, 31.25, 1638, 2, 90, 12.5, 1, 1, 4, 180, 720, 1.75),
    ("tpu7x", ("TPU7x",), 2307, 2 * 94.75, 7380, 3, 90, 12.5, 2, 2, 4, 224, 960, 0),
    ("a100-40gb", ("NVIDIA A100-SXM4-40GB",), 312, 0.75 * 39.4, 1555, 1, 300, 25, 1, 1, 8, 0, 0, 0),
    ("a100-80gb", ("NVIDIA A100-SXM4-80GB",), 312, 0.75 * 79.3, 2039, 1, 300, 25, 1, 1, 8, 0, 0, 0),
    ("h100", ("NVIDIA H100 80GB HBM3",), 989, 0.75 * 79.2, 3350, 1, 450, 50, 1, 1, 8, 0, 0, 0),
    ("h200", ("NVIDIA H200",), 989, 0.75 * 139.8, 4800, 1, 450, 50, 1, 1, 8, 0, 0, 0),
)


def _chip(
    name: str,
    kinds: tuple[str, ...],
    flops: float,
    memory: float,
    bandwidth: float,
    axes: int,
    link: float,
    network: float,
    devices: int,
    cores: int,
    host_chips: int,
    host_cpus: int,
    host_memory: float,
    clock: float,
) -> Chip:
    return Chip(
        name,
        kinds,
        flops * 1e12,
        memory * GIB,
        bandwidth * 1e9,
        axes,
        link * 1e9,
        network * 1e9,
        devices,
        cores,
        host_chips,
        host_cpus,
        host_memory * 1e9,
        clock * 1e9,
    )


CHIPS = {row[0]: _chip(*row) for row in _TABLE}
_BY_KIND = {kind: chip for chip in CHIPS.values() for kind in chip.kinds}


def chip_of(kind: str) -> Chip | None:
    """The chip whose JAX devices are called `kind`, or None: a CPU, or an accelerator that the table lacks."""
    return _BY_KIND.get(kind)
