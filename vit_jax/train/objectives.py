"""What is minimised: (parameters, batch) -> loss. Supervised and self-supervised runs differ only here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vit_jax.evaluate import MaskedSettings, classification_loss, masked_losses
from vit_jax.models import Constrain, Model, Params, normalize

# (params, batch, dropout key, constrain) -> (scalar loss, named scalar metrics); means over the batch.
Objective = Callable[[Params, dict[str, jax.Array], jax.Array, Constrain], tuple[jax.Array, dict[str, jax.Array]]]


def supervised(model: Model, kind: str, smoothing: float | jax.Array) -> Objective:
    """Classification of labelled images; reports `accuracy`.

    Labels are as for `classification_loss`. With soft or several labels, the largest of the row counts as right, and
    so does each of several that are equally large.
    """

    def objective(
        params: Params, batch: dict[str, jax.Array], key: jax.Array, constrain: Constrain
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        images = normalize(batch["image"])
        logits = model.apply(params, images, dropout_key=key, constrain=constrain)["logits"]
        loss = classification_loss(logits, batch["label"], kind, smoothing).mean()
        return loss, {"accuracy": _hits(logits.argmax(axis=-1), batch["label"]).mean()}

    return objective


def masked_patches(model: Model, settings: MaskedSettings) -> Objective:
    """Prediction of what was left out of the images; labels are not looked at.

    Reports `accuracy`, the share of colours that are right, unless pixels are predicted.
    """

    def objective(
        params: Params, batch: dict[str, jax.Array], key: jax.Array, constrain: Constrain
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        each = masked_losses(model, settings, params, batch["image"], key, constrain, dropout=True)
        means = {name: value.mean() for name, value in each.items()}
        return means.pop("loss"), means

    return objective


def _hits(predicted: jax.Array, labels: jax.Array) -> jax.Array:
    """Which predicted classes (b,) are right, by integer (b,) or soft (b, classes) labels."""
    if labels.ndim == 1:
        return predicted == labels
    share = jnp.take_along_axis(labels, predicted[:, None], axis=-1)[:, 0]
    return (share == labels.max(axis=-1)) & (share > 0)
