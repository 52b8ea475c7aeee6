"""Tests of frozen features: which images are taken, and numbers against scikit-learn on the same features."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from vit_jax.data import DataSettings, SyntheticDataset
from vit_jax.evaluate import EvaluatorSettings
from vit_jax.evaluate.features import feature_extractor
from vit_jax.evaluate.frozen import Frozen, Splits, first_of_each
from vit_jax.models import Model, ModelSettings, normalize
from vit_jax.parallel import MeshSettings, make_mesh, state_shardings

SETTINGS = DataSettings(name="synthetic", image_size=(8, 8))
MODEL = Model(ModelSettings("mu/2"), (8, 8), 3, 10)
TRAIN, TEST = SyntheticDataset(SETTINGS, size=300), SyntheticDataset(SETTINGS, size=90)


def random_params():
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32), MODEL.abstract_params)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshSettings(), jax.devices()[:1])


def features_by_hand(dataset):
    (batch,) = dataset.eval_batches(dataset.size, np.arange(dataset.size))
    return np.asarray(MODEL.apply(random_params(), normalize(batch["image"]))["pre_logits"]), batch["label"]


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 8))
def test_the_first_of_each_class_in_order(labels, number):
    found = first_of_each(np.array(labels, int), number) if labels else np.array([], int)
    wanted = [i for i, label in enumerate(labels) if labels[:i].count(label) < number]
    assert found.tolist() == wanted


@pytest.mark.parametrize(("batch", "devices"), [(7, 1), (128, 1), (16, 8)])
def test_features_are_those_of_the_model_in_the_order_of_the_split(batch, devices):
    on = make_mesh(MeshSettings(), jax.devices()[:devices])
    params = random_params()
    params = jax.device_put(params, state_shardings(params, MODEL.shapes, MODEL.logical_axes, on))
    found = feature_extractor(MODEL, on, batch, params)(params, TEST)
    values, labels = features_by_hand(TEST)
    np.testing.assert_allclose(found.values, values, atol=2e-5)
    np.testing.assert_array_equal(found.labels, labels)


def test_a_model_of_patches_gives_their_mean(mesh):
    model = Model(ModelSettings("mu/2", pool="none"), (8, 8), 3, 4)
    params = model.init(jax.random.key(0))
    found = feature_extractor(model, mesh, 30, params)(params, TEST)
    (batch,) = TEST.eval_batches(90, np.arange(90))
    tokens = model.apply(params, normalize(batch["image"]))["tokens"]
    np.testing.assert_allclose(found.values, np.asarray(tokens).mean(1), atol=1e-5)


def run(mesh, splits=None, **settings):
    about = EvaluatorSettings(**settings)
    params = random_params()
    return Frozen(about, splits or Splits((TRAIN,), TEST), MODEL, mesh, 64, params=None).run(params)


def ridge_accuracy(support, test, l2, bias, whiten):
    (x, y), (test_x, test_y) = support, test
    mean, deviation = (x.mean(0), x.std(0) + 1e-5) if whiten else (0.0, 1.0)

    def prepared(values):
        return np.concatenate([(values.astype(np.float64) - mean) / deviation, np.full((len(values), 1), bias)], 1)

    targets = 2.0 * (y[:, None] == np.arange(10)) - 1
    model = Ridge(alpha=l2, fit_intercept=False, solver="svd").fit(prepared(x), targets)
    return (model.predict(prepared(test_x)).argmax(1) == test_y).mean()


@pytest.mark.parametrize(("l2", "bias", "whiten"), [(1024.0, 100.0, True), (1.0, 10.0, True), (0.5, 1.0, False)])
def test_few_shot_accuracies_are_those_of_scikit_learn(mesh, l2, bias, whiten):
    """The images of each seed are the first ones of each class in the permutation that belongs to the seed."""
    from vit_jax.data import permute

    found = run(mesh, kind="fewshot", shots=(1, 5, 20), seeds=2, l2=(l2,), bias=bias, whiten=whiten)
    values, labels = features_by_hand(TRAIN)
    test = features_by_hand(TEST)
    for shots in (1, 5, 20):
        scores = []
        for seed in range(2):
            order = permute(seed, np.zeros(300, np.int64), np.arange(300), 300)
            chosen = [order[labels[order] == c][:shots] for c in range(10)]
            chosen = np.concatenate(chosen)
            scores.append(ridge_accuracy((values[chosen], labels[chosen]), test, l2, bias, whiten))
        # A prediction or two may tip over between float32 and float64.
        assert found[f"{shots}_shot"] == pytest.approx(np.mean(scores), abs=2 / 90)
        assert found[f"{shots}_shot_std"] == pytest.approx(np.std(scores), abs=2 / 90)
    assert found["examples"] == 90
    assert found["20_shot"] > found["1_shot"]


def test_pools_of_large_sets_are_taken_in_their_own_order(mesh):
    """One data set a seed: its first images count."""
    pools = tuple(SyntheticDataset(SETTINGS, size=size) for size in (150, 200))
    found = run(mesh, Splits(pools, TEST), kind="fewshot", shots=(3,), seeds=2)
    scores = []
    for pool in pools:
        values, labels = features_by_hand(pool)
        chosen = np.concatenate([np.flatnonzero(labels == c)[:3] for c in range(10)])
        scores.append(ridge_accuracy((values[chosen], labels[chosen]), features_by_hand(TEST), 1024.0, 100.0, True))
    assert found["3_shot"] == pytest.approx(np.mean(scores), abs=2 / 90)


def test_linear_uses_all_images_and_chooses_the_strength_on_others(mesh):
    validation = SyntheticDataset(SETTINGS, size=50)
    strengths = (1e-3, 1.0, 1e6)
    found = run(mesh, Splits((TRAIN,), TEST, validation), kind="linear", l2=strengths)
    support, held_out, test = (features_by_hand(d) for d in (TRAIN, validation, TEST))
    scores = [ridge_accuracy(support, held_out, l2, 100.0, True) for l2 in strengths]
    best = strengths[int(np.argmax(scores))]
    both = tuple(np.concatenate(pair) for pair in zip(support, held_out, strict=True))
    assert found["accuracy"] == pytest.approx(ridge_accuracy(both, test, best, 100.0, True), abs=2 / 90)


def test_nearest_neighbours_are_those_of_scikit_learn(mesh):
    found = run(mesh, kind="knn", neighbours=7)
    (x, y), (test_x, test_y) = features_by_hand(TRAIN), features_by_hand(TEST)
    model = KNeighborsClassifier(7, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)).fit(x, y)
    assert found["accuracy"] == pytest.approx((model.predict(test_x) == test_y).mean(), abs=1 / 90)


def test_what_a_person_reads(mesh):
    about = EvaluatorSettings(kind="fewshot", shots=(5,))
    test = Frozen(about, Splits((TRAIN,), TEST), MODEL, mesh, 64)
    assert test.describe({"5_shot": 0.5, "5_shot_std": 0.01, "examples": 90.0}) == (
        "5-shot 50.00% (std 1.00), 90 images"
    )
    linear = Frozen(dataclasses.replace(about, kind="linear"), Splits((TRAIN,), TEST), MODEL, mesh, 64)
    assert linear.describe({"accuracy": 0.25, "examples": 90.0}) == "linear accuracy 25.00%, 90 images"
