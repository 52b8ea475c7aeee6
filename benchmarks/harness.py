"""What the cases of the benchmarks share: turns that alternate, the limits of the machine, a record with versions.

The limits are a large matrix product and a copy of arrays too large for any cache.

Seconds are wall time on accelerators. On a CPU they are CPU-seconds, user and system time of this process, which mean
the same on a busy machine.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.errors import UserError, reason
from vit_jax.programs import costs, hlo

PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "torch", "timm", "transformers", "numpy")


@dataclasses.dataclass
class Contender:
    """Something that is timed in turns with others.

    Attributes:
      name: for the table.
      step: does the work once; gives something to wait for.
      wait: waits for it, and gives what has to agree among contenders: a loss, a sum of logits.
      parameters: number of them.
      first_seconds: wall time of building, compiling and doing the work once.
      value: what `wait` gave for the first time.
      memory: bytes on the device at most; 0 where it is not known.
      moved: bytes that doing the work once reads and writes, by the compiled program; 0 where it is not known.
    """

    name: str
    step: Callable[[], Any]
    wait: Callable[[Any], float]
    parameters: int
    first_seconds: float = 0.0
    value: float = 0.0
    memory: int = 0
    moved: float = 0.0


@contextlib.contextmanager
def settings_in_one_line() -> Iterator[None]:
    """Ends the program with one line when what was asked for cannot be had."""
    try:
        yield
    except UserError as error:
        raise SystemExit(str(error)) from error


def count(text: str) -> int:
    """A flag's number of things, of which there is at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Several of them, joined by commas."""
    return tuple(count(part) for part in text.split(","))


def check_output(path: str | None) -> None:
    """Makes the folder of a record before anything is measured."""
    if path:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SystemExit(f"--output={path}: its folder cannot be made: {reason(error)}") from error


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def turn(contender: Contender, times: int) -> tuple[float, float]:
    """(wall seconds, CPU-seconds) of doing the work so many times."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    found = None
    for _ in range(times):
        found = contender.step()
    contender.wait(found)
    return time.perf_counter() - wall, cpu_seconds() - cpu


def alternate(contenders: Sequence[Contender], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of doing the work once, one value a round, by name; each turn lasts about `seconds` of wall time."""
    times = {}
    for contender in contenders:
        turn(contender, 2)
        wall, _ = turn(contender, 2)
        times[contender.name] = max(2, round(2 * seconds / wall))
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            wall, used = turn(contender, times[contender.name])
            found[contender.name].append((used if on_cpu() else wall) / times[contender.name])
    return found


def rates(seconds: Sequence[float], amount: float) -> dict[str, Any]:
    """`{"median", "range"}` of an amount of work done in each of these times."""
    each = sorted(amount / s for s in seconds)
    return {"median": statistics.median(each), "range": [each[0], each[-1]]}


def matmul_rate(dtype: str) -> float:
    """FLOP/s of a large matrix product on random data."""
    size, times = (2048, 2) if on_cpu() else (8192, 20)
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size)).astype(dtype) for key in keys)
    product = jax.jit(lambda a, b: (a @ b).astype(a.dtype))
    product(a, b).block_until_ready()

    def step() -> jax.Array:
        c = a
        for _ in range(times):
            c = product(a, b)
        return c

    limit = Contender("matrix product", step, lambda c: c.block_until_ready(), 0)
    seconds = [turn(limit, 1)[1 if on_cpu() else 0] for _ in range(5)]
    return 2 * size**3 * times / statistics.median(seconds)


def copy_rate() -> float:
    """Bytes per second that a pass over a large array reads and writes; in place, since fresh memory is slower."""
    elements, times = (2**26, 4) if on_cpu() else (2**29, 20)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = add(jnp.zeros(elements, jnp.float32))

    def step() -> jax.Array:
        nonlocal array
        for _ in range(times):
            array = add(array)
        return array

    limit = Contender("copy", step, lambda x: x.block_until_ready(), 0)
    seconds = [turn(limit, 1)[1 if on_cpu() else 0] for _ in range(5)]
    return 2 * array.nbytes * times / statistics.median(seconds)


def memory_of(program: Any) -> int:
    """Bytes of a compiled program on each device, arguments included; 0 where the compiler does not say."""
    found = program.memory_analysis()
    return 0 if found is None else found.temp_size_in_bytes + found.argument_size_in_bytes


def moved_by(program: Any) -> float:
    """Bytes that a compiled program reads and writes on each device, loops multiplied out."""
    return costs.count(hlo.parse(program.as_text()), jax.device_count()).memory_bytes


def machine() -> dict[str, Any]:
    """Device, CPU, cores and versions."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0].device_kind
    return {"device": device, "cpu": cpu_name(), "cores": os.cpu_count(), "versions": versions}


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def write(path: str | None, record: dict[str, Any]) -> None:
    """Keeps a record as JSON, with the machine; nothing without a path."""
    if path:
        Path(path).write_text(json.dumps({**machine(), **record}, indent=1) + "\n", encoding="utf-8")
        print(f"written to {path}")


def check_same_work(contenders: Sequence[Contender], dtype: str) -> None:
    """Ends the program when one has other parameters, or found another value, than the first."""
    first, tolerance = contenders[0], 1e-3 if dtype == "float32" else 2e-2
    for other in contenders[1:]:
        if other.parameters != first.parameters:
            raise SystemExit(f"{other.name} has {other.parameters:,} parameters, {first.name} {first.parameters:,}")
        if not abs(other.value - first.value) <= tolerance * abs(first.value):  # neither may be NaN
            raise SystemExit(f"{other.name} finds {other.value}, {first.name} {first.value}")


def rows_of(
    contenders: Sequence[Contender],
    seconds: dict[str, list[float]],
    images: int,
    flops: float,
    limits: dict[str, float],
) -> list[dict[str, Any]]:
    """What table and record say of each: images a second, and the shares of the limits that they reach.

    Args:
      contenders: were timed.
      seconds: of doing the work once, by name.
      images: of doing it once.
      flops: of an image.
      limits: `matmul` FLOP/s and `copy` bytes/s of all devices.
    """
    rows = []
    for contender in contenders:
        found = rates(seconds[contender.name], images)
        rows.append(
            {
                "name": contender.name,
                "images_per_second": found["median"],
                "range": found["range"],
                "share_of_matmul": found["median"] * flops / limits["matmul"],
                "share_of_copy": found["median"] / images * contender.moved / limits["copy"],
                "tflops": found["median"] * flops / 1e12,
                "first_seconds": contender.first_seconds,
                "value": contender.value,
                "parameters": contender.parameters,
                "memory_gib": contender.memory / 2**30,
                "moved_gb": contender.moved / 1e9,
            }
        )
    return rows


def show(title: str, rows: Sequence[dict[str, Any]], limits: dict[str, float]) -> None:
    """Prints the table; ratios are to `timm compile`, or else to the first row."""
    unit = "images per CPU-second" if on_cpu() else "images/s"
    print(f"\n{title}, {jax.devices()[0].device_kind}: {unit}")
    base = next((row for row in rows if row["name"] == "timm compile"), rows[0])["images_per_second"]
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        low, high = row["range"]
        print(
            f"  {row['name']:<{width}}  {row['images_per_second']:9.2f} [{low:.2f} .. {high:.2f}]  "
            f"{row['images_per_second'] / base:5.2f}x  {row['share_of_matmul']:6.1%} of matmul  "
            f"{row['share_of_copy']:6.1%} of copy  "
            f"{row['memory_gib']:6.1f} GiB  first {row['first_seconds']:5.1f} s  found {row['value']:.4f}  "
            f"{row['parameters']:,}"
        )
    print(f"  matrix product {limits['matmul'] / 1e12:.2f} TFLOP/s, copy {limits['copy'] / 1e9:.1f} GB/s")
