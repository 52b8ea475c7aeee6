"""Losses against formulas and scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from vit_jax.evaluate import classification_loss


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return rng.normal(scale=3, size=(7, 5)), rng.integers(0, 5, 7)


def _softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def test_softmax_loss_equals_scikit_learn(case):
    logits, labels = case
    found = classification_loss(jnp.asarray(logits), jnp.asarray(labels), "softmax").mean()
    assert float(found) == pytest.approx(log_loss(labels, _softmax(logits), labels=range(5)), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sigmoid_loss_is_summed_over_classes(case, smoothing):
    logits, labels = case
    targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    p = 1 / (1 + np.exp(-logits))
    wanted = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(axis=1)
    found = classification_loss(jnp.asarray(logits), jnp.asarray(labels), "sigmoid", smoothing)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_smoothing_spreads_a_share_over_all_classes(case):
    logits, labels = case
    log_p = np.log(_softmax(logits))
    wanted = -(0.8 * log_p[np.arange(7), labels] + 0.2 * log_p.mean(axis=1))
    found = classification_loss(jnp.asarray(logits), jnp.asarray(labels), "softmax", 0.2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_loss_is_float32_whatever_the_logits(case):
    logits, labels = case
    assert classification_loss(jnp.asarray(logits, jnp.bfloat16), jnp.asarray(labels), "softmax").dtype == jnp.float32


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_integers_and_one_hot_labels_are_the_same(case, kind, smoothing):
    logits, labels = case
    integers = classification_loss(jnp.asarray(logits), jnp.asarray(labels), kind, smoothing)
    one_hot = classification_loss(jnp.asarray(logits), jnp.asarray(np.eye(5)[labels]), kind, smoothing)
    np.testing.assert_array_equal(integers, one_hot)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_labels(case, smoothing):
    logits, _ = case
    targets = np.random.default_rng(1).dirichlet(np.ones(5), 7)
    smooth = (1 - smoothing) * targets + smoothing / 5
    found = classification_loss(jnp.asarray(logits), jnp.asarray(targets), "softmax", smoothing)
    np.testing.assert_allclose(found, -(smooth * np.log(_softmax(logits))).sum(axis=1), rtol=1e-5)


def test_several_labels_each_count_by_themselves(case):
    logits, _ = case
    targets = np.random.default_rng(1).integers(0, 2, (7, 5))
    p = 1 / (1 + np.exp(-logits))
    wanted = [log_loss(t, q, labels=[0, 1], normalize=False) for t, q in zip(targets, p, strict=True)]
    found = classification_loss(jnp.asarray(logits), jnp.asarray(targets, jnp.float32), "sigmoid")
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
