"""Closed-form linear classifiers on frozen features (paper, section 4.1): regularised least squares.

The recipe is that of the paper's later public code (big_vision's `fewshot_lsr`): features are standardised by the
support set, a constant feature of 100 stands for a bias that is hardly regularised, targets are -1 and +1.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BIAS = 100.0
EPSILON = 1e-5
L2 = 2.0**10

_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Ridge:
    """A linear classifier.

    Attributes:
      mean: (d,) of the support set; zeros without whitening.
      deviation: (d,) likewise, with a small constant added; ones without whitening.
      weights: (d + 1, classes); the last row belongs to the constant feature.
      bias: that feature's value.
    """

    mean: jax.Array
    deviation: jax.Array
    weights: jax.Array
    bias: float

    def scores(self, features: jax.typing.ArrayLike) -> jax.Array:
        """(n, d) features -> (n, classes), about -1 and +1."""
        return _dot(_prepared(features, self.mean, self.deviation, self.bias), self.weights)


def fit(
    features: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    classes: int,
    l2: float = L2,
    *,
    bias: float = BIAS,
    whiten: bool = True,
) -> Ridge:
    """Solves min |X W - Y|^2 + l2 |W|^2 in float32 on the device.

    With fewer examples than features it solves for the examples (n x n), otherwise for the features (d x d). Targets
    are never formed: with n examples of many classes they would be the largest array.

    Args:
      features: (n, d) of the support set.
      labels: (n,) integers from 0.
      classes: number of them.
      l2: strength of the regularisation; the constant feature has it, too.
      bias: value of the constant feature: the larger, the less regularised; 0 for no bias.
      whiten: standardise each feature by its mean and deviation over the support set.
    """
    features, labels = jnp.asarray(features, jnp.float32), jnp.asarray(labels)
    mean, deviation = jnp.zeros(features.shape[1]), jnp.ones(features.shape[1])
    if whiten:
        mean, deviation = features.mean(axis=0), features.std(axis=0) + EPSILON
    x = _prepared(features, mean, deviation, bias)
    solve = _solve_examples if x.shape[0] < x.shape[1] else _solve_features
    return Ridge(mean, deviation, solve(x, labels, classes, jnp.float32(l2)), bias)


def _prepared(features: jax.typing.ArrayLike, mean: jax.Array, deviation: jax.Array, bias: float) -> jax.Array:
    x = (jnp.asarray(features, jnp.float32) - mean) / deviation
    return jnp.concatenate([x, jnp.full((x.shape[0], 1), bias)], axis=1)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, precision=_HIGHEST)


def _class_sums(rows: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """rows^T Y for targets Y of -1 and +1, (columns, classes): twice the sum of the class's rows minus that of all."""
    sums = jax.ops.segment_sum(rows, labels, classes)
    return (2.0 * sums - rows.sum(axis=0)).T


@jax.jit(static_argnums=2)
def _solve_features(x: jax.Array, labels: jax.Array, classes: int, l2: jax.Array) -> jax.Array:
    """W = (X^T X + l2 I)^-1 X^T Y."""
    gram = _dot(x.T, x) + l2 * jnp.eye(x.shape[1])
    return jax.scipy.linalg.solve(gram, _class_sums(x, labels, classes), assume_a="pos")


@jax.jit(static_argnums=2)
def _solve_examples(x: jax.Array, labels: jax.Array, classes: int, l2: jax.Array) -> jax.Array:
    """W = X^T (X X^T + l2 I)^-1 Y = ((X X^T + l2 I)^-1 X)^T Y."""
    gram = _dot(x, x.T) + l2 * jnp.eye(x.shape[0])
    return _class_sums(jax.scipy.linalg.solve(gram, x, assume_a="pos"), labels, classes)


def choose_l2(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    classes: int,
    strengths: Sequence[float],
    **options: Any,
) -> float:
    """The strength with the highest accuracy on validation features; the weakest of the best.

    Args:
      train: (features, labels) to fit.
      validation: (features, labels) to compare on.
      classes: number of them.
      strengths: to compare.
      **options: of `fit`.
    """
    accuracies = {l2: accuracy(fit(*train, classes, l2, **options), *validation) for l2 in sorted(strengths)}
    return max(accuracies, key=lambda l2: accuracies[l2])


def accuracy(ridge: Ridge, features: np.ndarray, labels: np.ndarray, rows: int = 4096) -> float:
    """Share of examples whose own class scores highest, worked through in parts."""
    right = 0
    for start in range(0, len(labels), rows):
        found = ridge.scores(features[start : start + rows]).argmax(axis=1)
        right += int((np.asarray(found) == labels[start : start + rows]).sum())
    return right / len(labels)
