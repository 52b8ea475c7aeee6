"""What k runs as one program cost, beside one run: seconds a step, and the price of a run.

    python benchmarks/together.py [--steps=20] [--runs=1,2,4,8] [--repeats=3]

Each model trains on random images on the default device; the fastest of the repeats counts. Compilation and input are
left out: both are paid once for runs with one seed.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence

import harness
import jax

from vit_jax.settings import build
from vit_jax.train import RunSettings, preflight
from vit_jax.train.vectorised import Vectorised

SMALL = {"trunk_units": (1,)}
MODELS = {
    "nano/2, 8 px": ({"variant": "nano/2"}, 8, 128),
    "R26+nano/16, 1 unit, 16 px": ({"variant": "R26+nano/16", **SMALL}, 16, 128),
    "R26x1, 1 unit, 16 px": ({"variant": "R26x1", **SMALL}, 16, 128),
    "Ti/16, 224 px": ({"variant": "Ti/16"}, 224, 16),
}
ON_ACCELERATORS = {
    "Ti/16, 224 px, batch 128": ({"variant": "Ti/16", "dtype": "bfloat16"}, 224, 128),
    "S/16, 224 px, batch 128": ({"variant": "S/16", "dtype": "bfloat16"}, 224, 128),
    "R50x1, 224 px, batch 32": ({"variant": "R50x1", "dtype": "bfloat16"}, 224, 32),
}


def settings(model: dict, side: int, batch: int, number: int) -> list[RunSettings]:
    """Runs that differ in their learning rate."""
    config = {
        "model": {**model, "remat": "none"},
        "data": {"name": "synthetic", "image_size": (side,)},
        "train": {"batch_size": batch, "duration": "1k steps"},
        "optimizer": {"weight_decay": 0.1},
        "schedule": {"warmup": "0 steps"},
        "evaluate": {"split": ""},
    }
    found = build(RunSettings, config)
    rates = [1e-4 * (i + 1) for i in range(number)]
    return [dataclasses.replace(found, schedule=dataclasses.replace(found.schedule, learning_rate=r)) for r in rates]


def seconds_per_step(runs: Sequence[RunSettings], steps: int, repeats: int) -> float:
    """Of all runs as one program."""
    program = Vectorised([preflight(run) for run in runs])
    batches = next(program.batches(0))
    compiled = program.compile(batches)
    states = program.fresh()
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up
        began = time.perf_counter()
        for _ in range(steps):
            states, metrics = program.run(compiled, states, batches)
        jax.block_until_ready(metrics)
        best = min(best, (time.perf_counter() - began) / steps)
    return best


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=harness.count, default=20)
    parser.add_argument("--repeats", type=harness.count, default=3)
    parser.add_argument("--runs", type=harness.counts, default=(1, 2, 4, 8), help="how many, joined by commas")
    flags = parser.parse_args()
    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind}")
    models = {**MODELS, **(ON_ACCELERATORS if device.platform != "cpu" else {})}
    for name, (model, side, batch) in models.items():
        alone = 0.0
        for number in flags.runs:
            seconds = seconds_per_step(settings(model, side, batch, number), flags.steps, flags.repeats)
            alone = alone or seconds
            print(
                f"{name:<28} {number:>3} runs  {1e3 * seconds:9.2f} ms a step, {seconds / alone:5.2f} x one", flush=True
            )


if __name__ == "__main__":
    main()
