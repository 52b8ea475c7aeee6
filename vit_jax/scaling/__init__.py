"""Configs -> studies: FLOPs counted from the traced program, and grids of runs."""

from vit_jax.scaling.finetune_grid import Candidate, Splits, TaskResult, finetune_grid
from vit_jax.scaling.flops import count_flops, forward_flops, training_flops

__all__ = [
    "Candidate",
    "Splits",
    "TaskResult",
    "count_flops",
    "finetune_grid",
    "forward_flops",
    "training_flops",
]
