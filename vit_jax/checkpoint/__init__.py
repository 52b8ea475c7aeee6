"""State <-> disk: Orbax for training states, the released npz layout for weights."""

from vit_jax.checkpoint.metadata import Metadata, check_same_shapes
from vit_jax.checkpoint.released import from_released, to_released
from vit_jax.checkpoint.settings import CheckpointSettings
from vit_jax.checkpoint.training import TrainingCheckpoints
from vit_jax.checkpoint.weights import CHECKPOINTS, EXPORT, Weights, export_npz, load_weights

__all__ = [
    "CHECKPOINTS",
    "EXPORT",
    "CheckpointSettings",
    "Metadata",
    "TrainingCheckpoints",
    "Weights",
    "check_same_shapes",
    "export_npz",
    "from_released",
    "load_weights",
    "to_released",
]
