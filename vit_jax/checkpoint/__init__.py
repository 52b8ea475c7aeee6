"""State <-> disk: Orbax for training states, published formats for weights."""

from vit_jax.checkpoint.adapt import Report, adapt
from vit_jax.checkpoint.folders import export_huggingface, export_timm
from vit_jax.checkpoint.metadata import Metadata, check_same_shapes
from vit_jax.checkpoint.npz import EXPORT, export_npz, export_npz_folder
from vit_jax.checkpoint.programs import export_onnx, export_saved_model, export_stablehlo
from vit_jax.checkpoint.published import PublishedFile, find_published, published
from vit_jax.checkpoint.settings import CheckpointSettings
from vit_jax.checkpoint.training import TrainingCheckpoints
from vit_jax.checkpoint.weights import CHECKPOINTS, Weights, at_size, load

__all__ = [
    "CHECKPOINTS",
    "EXPORT",
    "CheckpointSettings",
    "Metadata",
    "PublishedFile",
    "Report",
    "TrainingCheckpoints",
    "Weights",
    "adapt",
    "at_size",
    "check_same_shapes",
    "export_huggingface",
    "export_npz",
    "export_npz_folder",
    "export_onnx",
    "export_saved_model",
    "export_stablehlo",
    "export_timm",
    "find_published",
    "load",
    "published",
]
