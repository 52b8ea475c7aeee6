"""Classification by the nearest images of a support set, in the space of a frozen model's features."""

import jax
import jax.numpy as jnp
import numpy as np

TEMPERATURE = 0.07  # of the votes' weights (DINO, arXiv 2104.14294)


def nearest(
    train: tuple[np.ndarray, np.ndarray], features: np.ndarray, classes: int, neighbours: int, rows: int = 1024
) -> np.ndarray:
    """Classes by k nearest neighbours in cosine similarity, each vote weighted by exp(similarity / 0.07).

    Args:
      train: ((n, d) features, (n,) labels).
      features: (m, d).
      classes: number of them.
      neighbours: how many vote.
      rows: worked through at a time.

    Returns:
      (m,) integers.
    """
    support, labels = _unit(jnp.asarray(train[0])), jnp.asarray(train[1])
    neighbours = min(neighbours, len(train[1]))
    parts = (features[i : i + rows] for i in range(0, len(features), rows))
    return np.concatenate([np.asarray(_vote(support, labels, part, classes, neighbours)) for part in parts])


@jax.jit(static_argnums=(3, 4))
def _vote(support: jax.Array, labels: jax.Array, part: jax.Array, classes: int, neighbours: int) -> jax.Array:
    similarities = jnp.dot(_unit(part), support.T, precision=jax.lax.Precision.HIGHEST)
    similarity, index = jax.lax.top_k(similarities, neighbours)
    weight = jnp.exp((similarity - similarity[:, :1]) / TEMPERATURE)
    row = jnp.arange(part.shape[0])[:, None]
    return jnp.zeros((part.shape[0], classes)).at[row, labels[index]].add(weight).argmax(axis=1)


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x, axis=1, keepdims=True) + 1e-12)
