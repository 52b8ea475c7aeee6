"""A plan in words."""

import dataclasses
from collections.abc import Mapping

from vit_jax.scaling.planning.estimate import Estimate
from vit_jax.scaling.planning.record import Compiled, Moved, Request
from vit_jax.scaling.planning.search import Candidate

_TIMES = {
    "compute": "products of matrices at the chips' peak",
    "memory": "reading and writing the chips' memory",
    "links": "collectives between the chips of a slice",
    "network": "collectives between slices",
    "schedule": "the compiler's schedule of all instructions, without collectives",
}


def report(request: Request, found: Estimate) -> list[str]:
    """The lines of one plan."""
    compiled = found.compiled
    lines = [*_heading(request, found), *(_memory(found) if compiled.memory else _too_large(found))]
    if compiled.moved:
        lines += _moved(compiled, compiled.moved, request.settings.train.batch_size)
    if found.step:
        lines += [*_step(found), *_run(found), *_hosts(found)]
    took = f"{compiled.seconds:,.0f} CPU-seconds and {_gib(compiled.compiler_memory)} of memory"
    return [*lines, f"compiler    {took}, when this was compiled"]


def _heading(request: Request, found: Estimate) -> list[str]:
    settings, compiled = request.settings, found.compiled
    train = settings.train
    parts = f" in {train.micro_batches} micro-batches" if train.micro_batches > 1 else ""
    one = f"{found.chip} chip" if found.chip else f"{compiled.kind} device"
    chips = f"{found.chips:,} {one}{'s' if found.chips > 1 else ''} ({found.topology})"
    hosts = f"{compiled.hosts} host{'s' if compiled.hosts > 1 else ''}"
    return [
        f"plan        {settings.model.variant}, {compiled.parameters:,} parameters, {settings.model.dtype}, "
        f"remat {settings.model.remat}, batch {train.batch_size:,}{parts}",
        f"devices     {chips}, {hosts}, as {_sizes(compiled.mesh)}",
        *(f"whole       {line.removeprefix('whole').strip()}" for line in compiled.whole),
    ]


def _sizes(mesh: Mapping[str, int]) -> str:
    return " x ".join(f"{axis} {size}" for axis, size in mesh.items() if size > 1) or "one"


def _too_large(found: Estimate) -> list[str]:
    over = found.compiled.too_large
    assert over is not None
    needs = f"needs {_gib(over.needed)} of the {_gib(over.available)} that a device has"
    lines = [f"memory      does not fit: {needs}, {_gib(over.needed - over.available)} too much"]
    return [*lines, *(f"  try       {advice}" for advice in found.advice)]


def _memory(found: Estimate) -> list[str]:
    memory = found.compiled.memory
    assert memory is not None
    fits = f", of {_gib(found.chip_memory)}: it fits" if found.chip_memory else ""
    parts = {
        "parameters": memory.parameters,
        "optimizer": memory.optimizer,
        "average": memory.average,
        "batch": memory.batch + memory.padding,
        "activations, gradients and other temporaries": memory.temporaries,
        "program": memory.code,
    }
    return [
        f"memory      {_gib(memory.total)} on each device{fits}",
        *(f"  {_gib(size):>10}  {name}" for name, size in parts.items() if size),
    ]


def _moved(compiled: Compiled, moved: Moved, batch: int) -> list[str]:
    again = compiled.flops / compiled.model_flops - 1
    extra = f", {again:.0%} more than three forward passes" if again > 0.005 else ""
    each = compiled.flops / batch / 1e9
    lines = [
        f"one step    {compiled.flops / 1e12:,.1f} TFLOP on all devices, {each:,.1f} GFLOP an image{extra}",
        "  on each   " + f"{moved.memory / 1e9:,.1f} GB read from and written to memory",
    ]
    for one in moved.collectives:
        lines.append(f"            {one.bytes / 1e6:,.1f} MB sent in {one.count:,} {one.kind}s of {one.group} devices")
    if moved.network:
        lines.append(f"            {moved.network / 1e6:,.1f} MB sent to other slices")
    if moved.unknown_loops:
        lines.append(f"            (loops whose length only the run knows are counted once: {moved.unknown_loops})")
    return lines


def _step(found: Estimate) -> list[str]:
    step = found.step
    assert step is not None
    least = f"at least {step.least * 1e3:,.1f} ms, bound by {step.bound}"
    return [
        f"step time   {step.estimate * 1e3:,.1f} ms; {least}",
        *(f"  {v * 1e3:>7,.1f} ms  {name}: {_TIMES[name]}" for name, v in dataclasses.asdict(step).items() if v),
    ]


def _run(found: Estimate) -> list[str]:
    run = found.run
    assert run is not None
    days = f"{run.days:,.2f} days" if run.days >= 1 else f"{run.days * 24:,.2f} hours"
    speed = f"{run.images_per_second:,.0f} images/s ({run.utilization:.0%} of peak)"
    amounts = f"{run.chip_days:,.1f} chip-days, {run.core_days:,.1f} core-days, {run.exaflops:,.1f} exaFLOPs"
    lines = [f"whole run   {found.compiled.steps:,} steps at {speed}: {days}", f"            {amounts}"]
    if run.published_core_days:
        lines.append(f"            the paper's table 2 has {run.published_core_days:,.0f} TPUv3-core-days")
    return lines


def _hosts(found: Estimate) -> list[str]:
    hosts = found.hosts
    assert hosts is not None
    cpus = f" of {hosts.cpus}" if hosts.cpus else ""
    memory = f" of {hosts.memory_available / 1e9:,.0f}" if hosts.memory_available else ""
    return [
        f"each host   {hosts.images_per_second:,.0f} images/s, which keep {hosts.decode_cores:,.1f}{cpus} CPUs busy; "
        f"{sum(hosts.memory.values()) / 1e9:,.1f}{memory} GB of memory",
    ]


def table(found: list[Candidate]) -> list[str]:
    """The candidates of a search, a line each below a heading."""
    rows = [("fsdp", "tensor", "remat", "micro-batches", "memory", "step", "bound by"), *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=False)) for row in rows]
    return [f"{line}  {row[-1]}" for line, row in zip(lines, rows, strict=True)]


def _row(candidate: Candidate) -> tuple[str, ...]:
    fsdp, tensor, remat, parts = map(str, candidate.flags.values())
    memory = step = ""
    note = candidate.note
    if found := candidate.estimate:
        if over := found.compiled.too_large:
            memory, note = _gib(over.needed), "does not fit"
        elif found.compiled.memory and found.step:
            memory, step = _gib(found.compiled.memory.total), f"{found.step.estimate * 1e3:,.1f} ms"
            note = found.step.bound
    return fsdp, tensor, remat, parts, memory, step, note


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"
