"""Configs -> cost: FLOPs counted from the traced program, nothing is computed."""

from vit_jax.scaling import hyper
from vit_jax.scaling.flops import count_flops, forward_flops, training_flops

__all__ = ["count_flops", "forward_flops", "hyper", "training_flops"]
