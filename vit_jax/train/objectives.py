"""What is minimised: (parameters, batch) -> loss. Supervised and self-supervised runs differ only here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from vit_jax.models import Model, Params, normalize
from vit_jax.models.layers import Constrain

# (params, batch, dropout key, constrain) -> (scalar loss, named scalar metrics); means over the batch.
Objective = Callable[[Params, dict[str, jax.Array], jax.Array, Constrain], tuple[jax.Array, dict[str, jax.Array]]]


def classification_loss(logits: jax.Array, labels: jax.Array, kind: str, smoothing: float = 0.0) -> jax.Array:
    """Loss of each example, (b,) float32.

    Args:
      logits: (b, classes).
      labels: (b,) integers.
      kind: `softmax` cross-entropy, or `sigmoid` cross-entropy summed over the classes.
      smoothing: s; the targets become (1 - s) * one_hot + s / classes.
    """
    logits = logits.astype(jnp.float32)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    if kind == "sigmoid":
        return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)
    return optax.softmax_cross_entropy(logits, targets)


def supervised(model: Model, kind: str, smoothing: float) -> Objective:
    """Classification of labelled images; reports `accuracy`."""

    def objective(
        params: Params, batch: dict[str, jax.Array], key: jax.Array, constrain: Constrain
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        images = normalize(batch["image"])
        logits = model.apply(params, images, dropout_key=key, constrain=constrain)["logits"]
        loss = classification_loss(logits, batch["label"], kind, smoothing).mean()
        return loss, {"accuracy": (logits.argmax(axis=-1) == batch["label"]).mean()}

    return objective
