"""Batches -> better parameters: objectives, optimizer, state, one compiled step, the loop."""

from vit_jax.train.evaluations import open_split, own_evaluator
from vit_jax.train.facts import DataFacts, facts_of, known_facts
from vit_jax.train.loop import Result, train
from vit_jax.train.objectives import supervised
from vit_jax.train.optimizer import make_optimizer
from vit_jax.train.preflight import Plan, preflight
from vit_jax.train.program import Program, bytes_by_mesh, make_model, make_program
from vit_jax.train.progress import Reporter
from vit_jax.train.schedule import make_schedule
from vit_jax.train.settings import RunSettings
from vit_jax.train.state import abstract_state, create_state, state_shapes
from vit_jax.train.step import make_train_step
from vit_jax.train.together import train_together
from vit_jax.train.vectorised import together_key
from vit_jax.train.writers import METRICS_FILE, read_metrics

__all__ = [
    "METRICS_FILE",
    "DataFacts",
    "Plan",
    "Program",
    "Reporter",
    "Result",
    "RunSettings",
    "abstract_state",
    "bytes_by_mesh",
    "create_state",
    "facts_of",
    "known_facts",
    "make_model",
    "make_optimizer",
    "make_program",
    "make_schedule",
    "make_train_step",
    "open_split",
    "own_evaluator",
    "preflight",
    "read_metrics",
    "state_shapes",
    "supervised",
    "together_key",
    "train",
    "train_together",
]
