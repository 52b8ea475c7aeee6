"""Ahead of a run: its real program, compiled for devices that need not be here, and what that says."""

from vit_jax.scaling.planning.children import compile_apart
from vit_jax.scaling.planning.estimate import Estimate, estimate
from vit_jax.scaling.planning.record import Compiled, Request
from vit_jax.scaling.planning.report import report, table
from vit_jax.scaling.planning.search import Candidate, search

__all__ = [
    "Candidate",
    "Compiled",
    "Estimate",
    "Request",
    "compile_apart",
    "estimate",
    "report",
    "search",
    "table",
]
