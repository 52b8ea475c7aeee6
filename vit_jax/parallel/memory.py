"""How much memory a compiled program takes on a device, and how much there is."""

from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh


def program_bytes(compiled: Any) -> int:
    """What a compiled program holds on each device while it runs: arguments, results and what lies between.

    Args:
      compiled: `jax.jit(...).lower(...).compile()`.
    """
    found = compiled.memory_analysis()
    whole = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return whole - found.alias_size_in_bytes


def device_bytes(mesh: Mesh) -> int | None:
    """The memory of a device that nothing holds yet; None where devices do not tell, as CPUs."""
    device = next(device for device in mesh.devices.flat if device.process_index == jax.process_index())
    stats = device.memory_stats()
    if not stats or "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def available_bytes(mesh: Mesh) -> float:
    """As `device_bytes`; of CPU devices, which share the host's memory, an equal part of what is free there."""
    found = device_bytes(mesh)
    if found is not None:
        return found
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("inf")
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return free / jax.local_device_count()
