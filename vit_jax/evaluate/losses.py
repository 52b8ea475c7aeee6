"""Losses of labelled examples, for training and for testing."""

import jax
import jax.numpy as jnp
import optax


def classification_loss(
    logits: jax.Array, labels: jax.Array, kind: str, smoothing: float | jax.Array = 0.0
) -> jax.Array:
    """Loss of each example, (b,) float32.

    Args:
      logits: (b, classes).
      labels: (b,) integers, or (b, classes) floats: the share of each class (`softmax`: rows that add up to 1), or
        whether it is there (`sigmoid`).
      kind: `softmax` cross-entropy, or `sigmoid` cross-entropy summed over the classes.
      smoothing: s; the targets become (1 - s) * targets + s / classes.
    """
    logits = logits.astype(jnp.float32)
    targets = jax.nn.one_hot(labels, logits.shape[-1]) if labels.ndim == 1 else labels.astype(jnp.float32)
    targets = optax.smooth_labels(targets, smoothing)
    if kind == "sigmoid":
        return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)
    return optax.softmax_cross_entropy(logits, targets)
