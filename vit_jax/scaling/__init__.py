"""Configs -> cost: FLOPs counted from the traced program, sweeps and what their runs cost."""

from vit_jax.scaling import hyper
from vit_jax.scaling.costs import DataSize, RunCost, describe_sweep
from vit_jax.scaling.flops import count_flops, forward_flops, training_flops
from vit_jax.scaling.sweeps import Sweep, SweepRun, load_sweep, run_name

__all__ = [
    "DataSize",
    "RunCost",
    "Sweep",
    "SweepRun",
    "count_flops",
    "describe_sweep",
    "forward_flops",
    "hyper",
    "load_sweep",
    "run_name",
    "training_flops",
]
