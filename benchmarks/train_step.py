"""Images per second of one training step: ours and timm's, in turns on the same device.

    python benchmarks/train_step.py --model=S/16 --batch_size=8                       # CPU, float32
    python benchmarks/train_step.py --model=L/16 --batch_size=128 --dtype=bfloat16 --ours '' --ours model.scan=False
    python benchmarks/train_step.py --model=R50x1 --batch_size=256 --dtype=bfloat16 --peers=timm_eager,timm_compile

A step is: uint8 images on the device, normalised; forward; softmax cross-entropy of 1,000 classes; backward; AdamW.
Ours is the step that `vit_jax train` runs, optimizer state, metrics and all; `--ours` names settings that differ from
its defaults, several times for several variants. The peers run with PyTorch's fused optimizer. Before anything is
timed, all load the same weights, and their losses are shown.

Turns alternate, and medians over the rounds count (`harness.py`). The limits beside them are a large matrix product in
the same dtype and a copy, in the same run. FLOPs are the model's own (`vit_jax.models.flops`), three times those of
forward, a multiply-add as two; bytes are those of our compiled step. The first step begins with everything imported and
ends with a loss; compiling is in it. Without peers, ours may run on several devices: `--ours=mesh.fsdp=4`.
"""

import argparse
import time
from typing import Any

import harness
import jax
import subjects
from harness import Contender

from vit_jax import parallel
from vit_jax.models import Params
from vit_jax.train import create_state


class Ours:
    """Our step on random images that lie on the device."""

    def __init__(self, flags: argparse.Namespace, changes: str, params: Params):
        program = subjects.program_of(flags, changes)
        self.model = program.model
        self.state = create_state(program.model, program.optimizer, program.state, 0)
        shardings = jax.tree.map(lambda s: s.sharding, program.state["params"])
        self.state["params"] = parallel.on_mesh(params, shardings)
        rows = parallel.host_rows(program.mesh, flags.batch_size)
        self._batch = parallel.to_mesh(program.mesh, flags.batch_size, rows, subjects.random_batch(flags))
        self._step = program.train_step().lower(self.state, self._batch).compile()

    def step(self) -> Any:
        self.state, metrics = self._step(self.state, self._batch)
        return metrics

    @property
    def memory(self) -> int:
        return harness.memory_of(self._step)

    @property
    def moved(self) -> float:
        return harness.moved_by(self._step)


def ours(flags: argparse.Namespace, changes: str, params: Params) -> Contender:
    began = time.perf_counter()
    run = Ours(flags, changes, params)

    def wait(metrics: Any) -> float:
        return float(metrics["loss"])

    loss = wait(run.step())
    seconds = time.perf_counter() - began
    name, parameters = f"ours {changes}".strip(), run.model.parameter_count
    return Contender(name, run.step, wait, parameters, seconds, loss, run.memory, run.moved)


def peer(model: subjects.TorchModel, began: float) -> Contender:
    import torch

    model.module.train()
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=1e-6, weight_decay=0.1, fused=True)

    def loss_of() -> Any:
        return torch.nn.functional.cross_entropy(model.logits(), model.labels)

    forward = torch.compile(loss_of) if model.compiled else loss_of

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        optimizer.step()
        return loss.detach()

    loss = float(step())
    seconds = time.perf_counter() - began
    return Contender(model.name, step, float, model.parameters, seconds, loss, model.memory(step))


if __name__ == "__main__":
    subjects.compare(__doc__, "training step", ours, peer, passes=3)
