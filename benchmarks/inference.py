"""Images per second of the forward pass: ours, timm's and transformers', in turns on the same device.

    python benchmarks/inference.py --model=S/16 --batch_size=8
    python benchmarks/inference.py --model=L/16 --batch_size=256 --dtype=bfloat16 --peers=timm_compile,transformers

From uint8 images on the device to logits of 1,000 classes, on the same weights; the sum of the absolute logits has to
agree before anything is timed. Ours is the program that `vit_jax evaluate` and `predict` run; `--ours` names settings
that differ. How turns and limits are taken: `harness.py`.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import subjects
from harness import Contender

from vit_jax.models import Params, normalize


def ours(flags: argparse.Namespace, changes: str, params: Params) -> Contender:
    began = time.perf_counter()
    model = subjects.program_of(flags, changes).model
    images = jax.device_put(subjects.random_batch(flags)["image"])
    params = jax.device_put(params)
    program = jax.jit(lambda params, images: model.apply(params, normalize(images))["logits"])
    program = program.lower(params, images).compile()
    memory = program.memory_analysis()
    used = 0 if memory is None else memory.temp_size_in_bytes + memory.argument_size_in_bytes

    def step() -> jax.Array:
        return program(params, images)

    def wait(logits: jax.Array) -> float:
        return float(jnp.abs(logits).sum())

    value = wait(step())
    seconds = time.perf_counter() - began
    return Contender(f"ours {changes}".strip(), step, wait, model.parameter_count, seconds, value, used)


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
    return Contender(model.name, step, wait, model.parameters, time.perf_counter() - began, value, model.memory)


if __name__ == "__main__":
    subjects.compare(__doc__, "inference", ours, peer, passes=1)
