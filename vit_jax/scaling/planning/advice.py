"""What would make a program fit that does not: single changes, each with the memory it would leave."""

import math

from vit_jax.parallel import BATCH_AXES
from vit_jax.scaling.planning.record import Compiled, Request

_ROOM = 0.95  # of the memory: estimates are not exact
_LESS = {"none": ("dots", "full"), "dots": ("full",), "full": ()}


def advice(request: Request, compiled: Compiled) -> list[str]:
    """Settings to try, the least costly first; empty for a program that fits.

    How much recomputing saves is not known before it is compiled. The rest are estimates: fsdp splits the state evenly,
    and what is not state falls with the number of micro-batches.
    """
    if compiled.too_large is None:
        return []
    settings, found = request.settings, []
    remat = _LESS[settings.model.remat]
    if remat:
        found.append(f"config.model.remat={' or '.join(remat)} keeps less of each layer for backward")
    found += _micro_batches(request, compiled)
    found += _fsdp(compiled)
    if settings.optimizer.mu_dtype == "float32" and settings.optimizer.name != "adafactor":
        saved = _gib(compiled.parameters_local * 2)
        found.append(f"config.optimizer.mu_dtype=bfloat16 saves {saved}")
    return found


def _micro_batches(request: Request, compiled: Compiled) -> list[str]:
    parts = smallest_micro_batches(request, compiled)
    if parts is None:
        return []
    assert compiled.too_large is not None
    now = request.settings.train.micro_batches
    rest = max(0.0, compiled.too_large.needed - compiled.state)
    return [f"config.train.micro_batches={parts} leaves about {_gib(compiled.state + rest * now / parts)}"]


def smallest_micro_batches(request: Request, compiled: Compiled) -> int | None:
    """How many micro-batches may fit, or None if there are none, or state alone is too much."""
    too_large, train = compiled.too_large, request.settings.train
    assert too_large is not None
    room = _ROOM * too_large.available - compiled.state
    if room <= 0:
        return None
    rest = max(0.0, too_large.needed - compiled.state)
    wanted = max(2 * train.micro_batches, math.ceil(train.micro_batches * rest / room))
    unit = math.prod(compiled.mesh[axis] for axis in BATCH_AXES) * (2 if train.mixup or train.cutmix else 1)
    rows = train.batch_size // unit
    return next((parts for parts in range(wanted, rows + 1) if rows % parts == 0), None)


def _fsdp(compiled: Compiled) -> list[str]:
    """More parts of the state, where that would be enough."""
    assert compiled.too_large is not None
    now, free = compiled.mesh["fsdp"], compiled.mesh["data"]
    rest = max(0.0, compiled.too_large.needed - compiled.state)
    for factor in (n for n in range(2, free + 1) if free % n == 0):
        left = rest + compiled.state / factor
        if left <= _ROOM * compiled.too_large.available:
            return [f"config.mesh.fsdp={now * factor} leaves about {_gib(left)}"]
    return []


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
