"""Parameters -> numbers: classification, frozen features, masked patches, predictions on pictures."""

from vit_jax.evaluate.classification import Classification
from vit_jax.evaluate.evaluators import Evaluator, Subject, check_labels, make_evaluator
from vit_jax.evaluate.losses import classification_loss
from vit_jax.evaluate.masked import MaskedPatches, check_patches, masked_losses, outputs
from vit_jax.evaluate.predict import Prediction, predict
from vit_jax.evaluate.settings import EvaluateSettings, EvaluatorSettings, MaskedSettings
from vit_jax.evaluate.vtab import vtab_score

__all__ = [
    "Classification",
    "EvaluateSettings",
    "Evaluator",
    "EvaluatorSettings",
    "MaskedPatches",
    "MaskedSettings",
    "Prediction",
    "Subject",
    "check_labels",
    "check_patches",
    "classification_loss",
    "make_evaluator",
    "masked_losses",
    "outputs",
    "predict",
    "vtab_score",
]
