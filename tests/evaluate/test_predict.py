"""Predictions: names with probabilities, best first."""

from pathlib import Path

import jax
import numpy as np
import pytest

from vit_jax.checkpoint import Metadata, Weights
from vit_jax.evaluate import predict
from vit_jax.models import Model, ModelSettings, normalize

MODEL = Model(ModelSettings("mu/4", width=8, heads=2, mlp_dim=8), (8, 8), 3, 4)
NAMES = ("ant", "bee", "cat", "dog")
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), MODEL.abstract_params)


@pytest.fixture(scope="module")
def logits(params):
    return np.asarray(jax.jit(MODEL.apply)(params, normalize(IMAGES))["logits"], np.float64)


def weights(params, loss="softmax"):
    return Weights(params, Metadata(MODEL, NAMES, {"train": {"loss": loss}}), Path("here"))


def test_all_probabilities_are_sorted_and_sum_to_one(params, logits):
    for row, found in zip(logits, predict(weights(params), IMAGES, top=10), strict=True):
        probabilities = [prediction.probability for prediction in found]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1.0)
        expected = np.exp(row) / np.exp(row).sum()
        assert {p.label: p.probability for p in found} == pytest.approx(
            dict(zip(NAMES, expected, strict=True)), rel=1e-4
        )


def test_only_the_best_are_shown(params, logits):
    for row, found in zip(logits, predict(weights(params), IMAGES, top=2), strict=True):
        assert [prediction.label for prediction in found] == [NAMES[i] for i in np.argsort(-row)[:2]]


def test_a_model_of_a_sigmoid_loss_gives_each_class_its_own_probability(params, logits):
    for row, found in zip(logits, predict(weights(params, "sigmoid"), IMAGES, top=4), strict=True):
        expected = dict(zip(NAMES, 1 / (1 + np.exp(-row)), strict=True))
        assert {p.label: p.probability for p in found} == pytest.approx(expected, rel=1e-4)
        assert sum(expected.values()) != pytest.approx(1.0, abs=0.01)
