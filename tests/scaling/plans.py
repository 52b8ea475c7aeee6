"""Constructed plans: what a compiler might have said, for tests of what is made of it."""

import dataclasses

from vit_jax import parallel
from vit_jax.scaling.planning import Compiled, Request
from vit_jax.scaling.planning.record import Collectives, Memory, Moved, TooLarge
from vit_jax.settings import build
from vit_jax.train import DataFacts, RunSettings

GIB = 2**30


def request(topology="v5e:4x4", slices=1, **groups) -> Request:
    """B/32 on synthetic images with batch 4096, 100 steps."""
    config = {
        "model": {"variant": "B/32"},
        "data": {"name": "synthetic"},
        "train": {"batch_size": 4096, "duration": "100 steps"},
        "schedule": {"warmup": "10 steps"},
    }
    for name, values in groups.items():
        config[name] = {**config.get(name, {}), **values}
    settings = build(RunSettings, config)
    wanted = dataclasses.asdict(parallel.parse_topology(topology, slices))
    return Request(settings, DataFacts(1_000_000, 1000), wanted)


MOVED = Moved(
    memory=8.19e9,
    collectives=(Collectives("all-gather", 4, 9e6, 24), Collectives("all-reduce", 16, 18e6, 26)),
    network=0.0,
    cycles=15e6,
    unknown_loops=0,
)


def compiled(**changes) -> Compiled:
    """A program that fits: data 4 x fsdp 4, 5 GiB."""
    return dataclasses.replace(
        Compiled(
            kind="TPU v5 lite",
            mesh={"replica": 1, "data": 4, "fsdp": 4, "tensor": 1},
            hosts=4,
            whole=(),
            state=GIB,
            parameters_local=GIB // 16,
            saved=3 * GIB,
            parameters=GIB // 4,
            tokens=50,
            flops=int(16 * 197e12 / 10),
            model_flops=int(16 * 197e12 / 20),
            steps=1_000_000,
            memory=Memory(GIB // 4, GIB // 2, 0, 10 * 2**20, 0, 4 * GIB, 30 * 2**20, 5 * GIB),
            moved=MOVED,
            too_large=None,
            seconds=60.0,
            compiler_memory=GIB,
            key="0" * 32,
        ),
        **changes,
    )


def too_large(needed: float, available: float = 16.0, **changes) -> Compiled:
    """A program that needs so many GiB."""
    over = TooLarge(needed * GIB, available * GIB)
    return compiled(memory=None, moved=None, too_large=over, **changes)
