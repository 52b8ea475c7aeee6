"""Memory traffic and peak memory of the train step on a TPU that is not here: ours beside the baseline's.

    python benchmarks/tpu_programs.py --topology=v5e:2x2 --output=benchmarks/results/tpu_programs_v5e.json

Both are compiled by libtpu, data-parallel, bfloat16, AdamW, 1,000 classes, 224 px: unrolled with nothing recomputed,
and scanned; there the baseline recomputes all of a block, and ours what `--config.model.remat` says. The baseline's
softmax is in bfloat16, as in big_vision, and for equal mathematics once more in float32, as ours always is. Bytes are
those that the compiled program reads and writes, with loops multiplied out (`vit_jax.programs`); memory is the
compiler's.
"""

import argparse
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import harness
import jax
import jax.numpy as jnp
import optax
from baseline_vit import Baseline, BaselineStep
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax import parallel
from vit_jax.models import ModelSettings
from vit_jax.programs import costs, hlo
from vit_jax.settings import build
from vit_jax.train import DataFacts, RunSettings, make_program

CLASSES = 1000
BATCH = {"B/16": 64, "L/16": 32, "H/14": 16}  # images a chip
LAYOUTS = {"unrolled": [{"scan": False, "remat": "none"}], "scanned": [{"remat": "full"}, {"remat": "dots"}]}


def ours(model: str, depth: int, layout: dict[str, Any], devices: list[Any], batch: int) -> Any:
    config = {
        "model": {"variant": model, "depth": depth, "dtype": "bfloat16", **layout},
        "data": {"name": "synthetic", "image_size": (224,)},
        "train": {"batch_size": batch, "duration": "1000 steps"},
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
        "schedule": {"learning_rate": 1e-4, "warmup": "100 steps"},
        "mesh": {"data": len(devices)},
        "evaluate": {"split": ""},
    }
    program = make_program(build(RunSettings, config), DataFacts(10**6, CLASSES), devices)
    return program.train_step().trace(program.state, program.batch())


def depth_of(model: str) -> int:
    shape = ModelSettings(model).resolved.encoder
    assert shape is not None
    return shape.depth


def baseline(model: str, depth: int, scan: bool, float32: bool, devices: list[Any], batch: int) -> Any:
    shape = ModelSettings(model).resolved.encoder
    assert shape is not None
    sizes = shape.width, depth, shape.mlp_dim, shape.heads, int(model.partition("/")[2])
    vit = Baseline(*sizes, CLASSES, scan, float32)
    step = BaselineStep(vit, optax.adamw(1e-4, weight_decay=0.1), 224)
    mesh = jax.sharding.Mesh(devices, "data")
    whole, split = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), step.state())
    images = jax.ShapeDtypeStruct((batch, 224, 224, 3), jnp.uint8, sharding=split)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=split)
    return jax.jit(step, donate_argnums=0).trace(state, {"image": images, "label": labels})


def measured(name: str, traced: Any, devices: int) -> dict[str, Any]:
    compiled = traced.lower(lowering_platforms=("tpu",)).compile()
    moved, memory = costs.count(hlo.parse(compiled.as_text()), devices), compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    row = {
        "name": name,
        "gb": moved.memory_bytes / 1e9,
        "peak_gib": (peak - memory.alias_size_in_bytes) / 2**30,
        "collective_gb": sum(t.bytes for t in moved.collectives()) / 1e9,
        "cycles": moved.cycles,
    }
    print(
        f"  {name:<40} {row['gb']:8.2f} GB  {row['peak_gib']:7.2f} GiB  {row['collective_gb']:6.2f} GB sent  "
        f"{moved.cycles / 1e6:9.1f} Mcycles",
        flush=True,
    )
    return row


def check(flags: argparse.Namespace) -> None:
    """Ends the program, before anything is compiled, when a flag cannot be."""
    for flag, known in (("models", BATCH), ("layouts", LAYOUTS)):
        for name in getattr(flags, flag).split(","):
            if name not in known:
                raise SystemExit(f"--{flag}={name}: must be of {', '.join(known)}")
    harness.check_output(flags.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--models", default="B/16,L/16,H/14")
    parser.add_argument("--layouts", default="unrolled,scanned")
    parser.add_argument(
        "--depth", type=harness.count, help="of unrolled models, which compile slowly (default: the model's own)"
    )
    parser.add_argument("--output", help="JSON file (default: none)")
    flags = parser.parse_args()
    check(flags)
    devices = parallel.topology_devices(parallel.parse_topology(flags.topology))
    rows = []
    for model in flags.models.split(","):
        batch = BATCH[model] * len(devices)
        for layout in flags.layouts.split(","):
            depth = flags.depth if flags.depth and layout == "unrolled" else depth_of(model)
            print(f"{model}, {layout}, {depth} layers, {BATCH[model]} images a chip, {flags.topology}", flush=True)
            found = []
            for float32 in (False, True):
                name = "baseline, softmax in " + ("float32" if float32 else "bfloat16")
                traced = baseline(model, depth, layout == "scanned", float32, devices, batch)
                found.append(measured(name, traced, len(devices)))
            for settings in LAYOUTS[layout]:
                name = "ours " + " ".join(f"{key}={value}" for key, value in settings.items())
                found.append(measured(name, ours(model, depth, settings, devices, batch), len(devices)))
            rows += [{"model": model, "layout": layout, "depth": depth, "batch": batch, **row} for row in found]
    if flags.output:
        versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu", "flax", "optax")}
        about = {"topology": flags.topology, "versions": versions, "rows": rows}
        Path(flags.output).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
