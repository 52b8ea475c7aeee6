"""The devices that JAX has found, and their memory."""

import glob
import os

import jax
import psutil

from vit_jax.doctor.findings import Finding

# Device files of accelerators, and the extra that makes JAX use them.
_ACCELERATORS = {"/dev/nvidia[0-9]*": ("NVIDIA GPU", "gpu"), "/dev/accel[0-9]*": ("TPU", "tpu")}
_UNEQUAL = 0.9  # a device with less than so much of the largest one's memory is shared with another program
_TIGHT = 2 * 2**30  # bytes of host memory below which a process does not get far
_GIB = 2**30


def look_at_devices() -> Finding:
    """This process's devices; wrong are accelerators that JAX does not use."""
    devices = jax.local_devices()
    kind = devices[0].device_kind
    found = f"{len(devices)} of {jax.device_count()}, {devices[0].platform} ({kind})"
    numbers = {"local": len(devices), "all": jax.device_count(), "platform": devices[0].platform, "kind": kind}
    if devices[0].platform == "cpu" and "cpu" not in os.environ.get("JAX_PLATFORMS", ""):
        for pattern, (name, extra) in _ACCELERATORS.items():
            if files := glob.glob(pattern):
                fix = f"this host has {len(files)} {name}(s), which JAX does not use: pip install '.[{extra}]'"
                return Finding("devices", found, fix, numbers)
    return Finding("devices", found, numbers=numbers)


def look_at_memory() -> Finding:
    """Free memory of each device, of the host on CPU; wrong is a device of which another program holds a part."""
    host = psutil.virtual_memory()
    numbers = {"host_total_bytes": host.total, "host_available_bytes": host.available}
    found = f"host {host.available / _GIB:.1f} of {host.total / _GIB:.1f} GiB free"
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    limits = [each["bytes_limit"] - each.get("bytes_in_use", 0) for each in stats if "bytes_limit" in each]
    fix = "" if host.available >= _TIGHT else "little host memory is free: end other programs, or take a larger host"
    if limits:
        numbers["device_available_bytes"] = limits
        found = f"{min(limits) / _GIB:.1f} GiB free per device, {found}"
        if min(limits) < _UNEQUAL * max(limits):
            which, most = limits.index(min(limits)), max(limits) / _GIB
            fix = f"device {which} has {min(limits) / _GIB:.1f} GiB, another {most:.1f}: end the program that uses it"
    return Finding("memory", found, fix, numbers)
