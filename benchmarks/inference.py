"""Images per second of the forward pass: ours, timm's and transformers', in turns on the same device.

    python benchmarks/inference.py --model=S/16 --batch_size=8
    python benchmarks/inference.py --model=L/16 --batch_size=256 --dtype=bfloat16 --peers=timm_compile,transformers

From uint8 images on the device to logits of 1,000 classes, on the same weights; the sum of the absolute logits has to
agree before anything is timed. Ours is the model as `vit_jax evaluate` applies it, laid out on the mesh; `--ours` names
settings that differ. How turns and limits are taken: `harness.py`.
"""

import argparse
import time
from typing import Any

import harness
import jax
import jax.numpy as jnp
import subjects
from harness import Contender

from vit_jax import parallel
from vit_jax.models import Params, normalize


def ours(flags: argparse.Namespace, changes: str, params: Params) -> Contender:
    began = time.perf_counter()
    subject = subjects.program_of(flags, changes)
    model, constrain = subject.model, parallel.constrain_on(subject.mesh)
    rows = parallel.host_rows(subject.mesh, flags.batch_size)
    images = parallel.to_mesh(subject.mesh, flags.batch_size, rows, subjects.random_batch(flags))["image"]
    params = parallel.on_mesh(params, jax.tree.map(lambda s: s.sharding, subject.state["params"]))
    program = jax.jit(lambda params, images: model.apply(params, normalize(images), constrain=constrain)["logits"])
    program = program.lower(params, images).compile()

    def step() -> jax.Array:
        return program(params, images)

    def wait(logits: jax.Array) -> float:
        return float(jnp.abs(logits).sum())

    value = wait(step())
    seconds = time.perf_counter() - began
    name, memory, moved = f"ours {changes}".strip(), harness.memory_of(program), harness.moved_by(program)
    return Contender(name, step, wait, model.parameter_count, seconds, value, memory, moved)


def peer(model: subjects.TorchModel, began: float) -> Contender:
    import torch

    model.module.eval()
    forward = torch.compile(model.logits) if model.compiled else model.logits

    def step() -> Any:
        with torch.inference_mode():
            return forward()

    def wait(logits: Any) -> float:
        return float(logits.abs().sum())

    value = wait(step())
    seconds = time.perf_counter() - began
    return Contender(model.name, step, wait, model.parameters, seconds, value, model.memory(step))


if __name__ == "__main__":
    subjects.compare(__doc__, "inference", ours, peer, passes=1)
