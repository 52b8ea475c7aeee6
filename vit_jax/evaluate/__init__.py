"""Parameters -> numbers: exact classification metrics, predictions on pictures."""

from vit_jax.evaluate.classification import Classification
from vit_jax.evaluate.losses import classification_loss
from vit_jax.evaluate.predict import Prediction, predict
from vit_jax.evaluate.settings import EvaluateSettings

__all__ = ["Classification", "EvaluateSettings", "Prediction", "classification_loss", "predict"]
