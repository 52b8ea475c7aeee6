"""Images per second of one training step: ours and timm's, in turns on the same device.

    python benchmarks/train_step.py --model=S/16 --batch_size=8                       # CPU, float32
    python benchmarks/train_step.py --model=L/16 --batch_size=128 --dtype=bfloat16 --ours '' --ours model.scan=False
    python benchmarks/train_step.py --model=R50x1 --batch_size=256 --dtype=bfloat16 --peers=timm_eager,timm_compile

A step is: uint8 images on the device, normalised; forward; softmax cross-entropy of 1,000 classes; backward; AdamW.
Ours is the step that `vit_jax train` runs, optimizer state, metrics and all; `--ours` names settings that differ from
its defaults, several times for several variants. timm runs eager and compiled, with its fused optimizer; in bfloat16
under autocast, ResNets channels-last. Before anything is timed, both load the same weights, and their losses are
compared.

Each turn takes enough steps to last about `--seconds`; turns alternate, and medians over the rounds count. On a CPU the
unit is images per CPU-second (user and system time of the process), which holds on a busy machine. The limit beside
them is a large matrix product in the same dtype, in the same run. FLOPs are the model's own, three times those of
forward, a multiply-add as two, by `vit_jax.scaling`.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # timm needs memory, too

import jax
import numpy as np
import torchvision_operators

from vit_jax import parallel
from vit_jax.checkpoint import Metadata, export_timm
from vit_jax.models import Model, forward_flops
from vit_jax.settings import build, to_dict
from vit_jax.train import DataFacts, Program, RunSettings, create_state, make_program

CLASSES = 1000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--ours", action="append", help="settings of a variant: model.scan=False,model.remat=none")
    parser.add_argument(
        "--peers", default="timm_eager,timm_compile", help="of timm_eager, timm_compile; empty for none"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--output", help="JSON file (default: none)")
    return parser.parse_args()


@dataclasses.dataclass
class Contender:
    """Something that takes training steps.

    Attributes:
      name: for the table.
      step: takes one step; gives something to wait for.
      wait: waits for it, and gives the loss.
      parameters: number of them.
      first_seconds: wall time of building, compiling and taking the first step.
      memory: bytes on the device at most; 0 where it is not known.
    """

    name: str
    step: Callable[[], Any]
    wait: Callable[[Any], float]
    parameters: int
    first_seconds: float = 0.0
    first_loss: float = 0.0
    memory: int = 0


def settings_of(flags: argparse.Namespace, changes: str) -> RunSettings:
    config: dict[str, Any] = {
        "model": {"variant": flags.model, "dtype": flags.dtype},
        "data": {"name": "synthetic", "image_size": (flags.image_size,)},
        "train": {"batch_size": flags.batch_size, "duration": "1000 steps"},
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
        "schedule": {"learning_rate": 1e-4, "warmup": "100 steps"},
        "evaluate": {"split": ""},
    }
    for part in filter(None, changes.split(",")):
        key, _, value = part.partition("=")
        group, name = key.split(".")
        try:
            found = json.loads(value.lower() if value in ("True", "False") else value)
        except ValueError:
            found = value
        config.setdefault(group, {})[name] = found
    return build(RunSettings, config)


def program_of(flags: argparse.Namespace, changes: str) -> Program:
    return make_program(settings_of(flags, changes), DataFacts(examples=10**6, classes=CLASSES))


class Ours:
    """Our step on random images that lie on the device."""

    def __init__(self, flags: argparse.Namespace, changes: str, params: Any = None):
        program = program_of(flags, changes)
        self.model = program.model
        self.state = create_state(program.model, program.optimizer, program.state, 0)
        if params is not None:
            shardings = jax.tree.map(lambda s: s.sharding, program.state["params"])
            self.state["params"] = parallel.on_mesh(params, shardings)
        rows = parallel.host_rows(program.mesh, flags.batch_size)
        batch = parallel.to_mesh(program.mesh, flags.batch_size, rows, random_batch(flags))
        self._step = program.train_step().lower(self.state, batch).compile()
        self._batch = batch

    def step(self) -> Any:
        self.state, metrics = self._step(self.state, self._batch)
        return metrics

    @property
    def temporaries(self) -> int:
        found = self._step.memory_analysis()
        return found.temp_size_in_bytes + found.argument_size_in_bytes if found is not None else 0


def random_batch(flags: argparse.Namespace) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shape = (flags.batch_size, flags.image_size, flags.image_size, 3)
    label = random.integers(0, CLASSES, flags.batch_size).astype(np.int32)
    return {"image": random.integers(0, 256, shape, dtype=np.uint8), "label": label}


def random_params(model: Model) -> Any:
    """Fresh values, with a classifier that is not zero, so that losses tell something."""
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    kernel = params["head"]["kernel"]
    params["head"]["kernel"] = np.random.default_rng(1).normal(0, 0.05, kernel.shape).astype(np.float32)
    return params


def ours(flags: argparse.Namespace, changes: str, params: Any) -> Contender:
    began = time.perf_counter()
    run = Ours(flags, changes, params)
    wait = lambda metrics: float(metrics["loss"])  # noqa: E731
    loss = wait(run.step())
    count = run.model.parameter_count
    name = f"ours {changes}".strip()
    return Contender(name, run.step, wait, count, time.perf_counter() - began, loss, run.temporaries)


def timm_step(flags: argparse.Namespace, compiled: bool, folder: str) -> Contender:
    import torch

    torchvision_operators.register()
    import timm

    began = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).to(device).train()
    layout = torch.channels_last if flags.model.startswith("R") else torch.contiguous_format
    model = model.to(memory_format=layout)
    count = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.1, fused=True)
    batch = random_batch(flags)
    images = torch.from_numpy(batch["image"]).to(device)
    labels = torch.from_numpy(batch["label"]).long().to(device)

    def loss_of() -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=flags.dtype == "bfloat16"):
            pixels = (images.permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous(memory_format=layout)
            return torch.nn.functional.cross_entropy(model(pixels).float(), labels)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        optimizer.step()
        return loss.detach()

    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        torch.cuda.reset_peak_memory_stats()
    loss = float(step())
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    name = "timm compile" if compiled else "timm eager"
    return Contender(name, step, float, count, time.perf_counter() - began, loss, memory)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def turn(contender: Contender, steps: int) -> tuple[float, float]:
    """(wall seconds, CPU-seconds) of so many steps."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    found = None
    for _ in range(steps):
        found = contender.step()
    contender.wait(found)
    return time.perf_counter() - wall, cpu_seconds() - cpu


def matmul_rate(dtype: str) -> float:
    """FLOP/s of a large matrix product on random data: on a CPU per CPU-second."""
    cpu = jax.default_backend() == "cpu"
    size = 2048 if cpu else 8192
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size)).astype(dtype) for key in keys)
    product = jax.jit(lambda a, b: (a @ b).astype(a.dtype))
    product(a, b).block_until_ready()
    times = []
    for _ in range(5):
        wall, used = time.perf_counter(), cpu_seconds()
        c = a
        for _ in range(2 if cpu else 20):
            c = product(a, b)
        c.block_until_ready()
        times.append((cpu_seconds() - used) if cpu else (time.perf_counter() - wall))
    return 2 * size**3 * (2 if cpu else 20) / statistics.median(times)


def versions() -> dict[str, str]:
    found = {}
    for name in ("jax", "jaxlib", "flax", "optax", "torch", "timm", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "-"
    return {**found, "python": platform.python_version()}


def contenders(flags: argparse.Namespace) -> tuple[Model, list[Contender]]:
    model = program_of(flags, "").model
    params = random_params(model)
    found = [ours(flags, changes, params) for changes in flags.ours or [""]]
    with tempfile.TemporaryDirectory() as folder:
        if flags.peers:
            config = to_dict(settings_of(flags, ""))
            names = tuple(f"class {i}" for i in range(CLASSES))
            export_timm(params, Metadata(model, names, config), Path(folder) / "timm")
        for peer in filter(None, flags.peers.split(",")):
            found.append(timm_step(flags, peer == "timm_compile", str(Path(folder) / "timm")))
    return model, found


def main() -> None:
    flags = parse_arguments()
    cpu = jax.default_backend() == "cpu"
    model, found = contenders(flags)
    flops = 3 * forward_flops(model)
    steps = {}
    for contender in found:
        turn(contender, 2)
        wall, _ = turn(contender, 2)
        steps[contender.name] = max(2, round(2 * flags.seconds / wall))
    times: dict[str, list[float]] = {contender.name: [] for contender in found}
    for _ in range(flags.rounds):
        for contender in found:
            wall, used = turn(contender, steps[contender.name])
            times[contender.name].append((used if cpu else wall) / steps[contender.name])
    limit = matmul_rate(flags.dtype)
    rows = []
    for contender in found:
        each = sorted(flags.batch_size / t for t in times[contender.name])
        rate = statistics.median(each)
        rows.append(
            {
                "name": contender.name,
                "images_per_second": rate,
                "range": [each[0], each[-1]],
                "share_of_matmul": rate * flops / limit,
                "tflops": rate * flops / 1e12,
                "first_step_seconds": contender.first_seconds,
                "loss": contender.first_loss,
                "parameters": contender.parameters,
                "memory_gib": contender.memory / 2**30,
            }
        )
    report(flags, rows, limit, cpu)


def report(flags: argparse.Namespace, rows: list[dict[str, Any]], limit: float, cpu: bool) -> None:
    device = jax.devices()[0].device_kind
    unit = "images per CPU-second" if cpu else "images/s"
    print(f"\n{flags.model}, batch {flags.batch_size}, {flags.image_size} px, {flags.dtype}, {device}: {unit}")
    base = next(
        (row["images_per_second"] for row in rows if row["name"] == "timm compile"), rows[0]["images_per_second"]
    )
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        low, high = row["range"]
        print(
            f"  {row['name']:<{width}}  {row['images_per_second']:9.2f} [{low:.2f} .. {high:.2f}]  "
            f"{row['images_per_second'] / base:5.2f}x  {row['share_of_matmul']:6.1%} of matmul  "
            f"{row['memory_gib']:6.1f} GiB  first {row['first_step_seconds']:5.1f} s  loss {row['loss']:.4f}  "
            f"{row['parameters']:,}"
        )
    print(f"  matrix product {limit / 1e12:.2f} TFLOP/s")
    if flags.output:
        about = {"flags": vars(flags), "unit": unit, "device": device, "matmul_flops": limit, "versions": versions()}
        path = Path(flags.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
