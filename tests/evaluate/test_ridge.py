"""Few-shot classifiers against scikit-learn's."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from vit_jax.evaluate import ridge
from vit_jax.evaluate.neighbours import nearest


def blobs(examples, width, classes, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(examples) % classes
    centres = np.random.default_rng(99).normal(size=(classes, width))
    features = 3 + 2 * (centres[labels] + random.normal(size=(examples, width)))
    return features.astype(np.float32), labels


def by_scikit_learn(features, labels, classes, test, l2):
    features, test = features.astype(np.float64), test.astype(np.float64)
    mean, deviation = features.mean(0), features.std(0) + 1e-5

    def prepared(x):
        return np.concatenate([(x - mean) / deviation, np.full((len(x), 1), 100.0)], axis=1)

    targets = 2.0 * (labels[:, None] == np.arange(classes)) - 1
    model = Ridge(alpha=l2, fit_intercept=False, solver="svd").fit(prepared(features), targets)
    return model.predict(prepared(test))


@pytest.mark.parametrize("examples", [20, 33, 200])
@pytest.mark.parametrize("l2", [2.0**-3, 2.0**10])
def test_scores_are_those_of_scikit_learn(examples, l2):
    """Fewer examples than features, about as many, and more: both ways to solve."""
    (features, labels), (test, _) = blobs(examples, 32, 5), blobs(50, 32, 5, seed=1)
    found = ridge.fit(features, labels, 5, l2).scores(test)
    wanted = by_scikit_learn(features, labels, 5, test, l2)
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())
    assert (np.asarray(found).argmax(1) == wanted.argmax(1)).all()


def test_both_ways_to_solve_agree():
    features, labels = blobs(30, 29, 4)  # with the constant feature, 30 x 30 either way
    x = jnp.concatenate([jnp.asarray(features), jnp.full((30, 1), 100.0)], axis=1)
    found = [
        solve(x, jnp.asarray(labels), 4, jnp.float32(64)) for solve in (ridge._solve_examples, ridge._solve_features)
    ]
    np.testing.assert_allclose(*found, atol=1e-4)


def test_a_class_without_examples_is_never_chosen():
    features, labels = blobs(40, 8, 3)
    scores = np.asarray(ridge.fit(features, labels, 5).scores(features))
    assert set(scores.argmax(1)) <= {0, 1, 2}


def test_accuracy_counts_every_row_once():
    features, labels = blobs(103, 8, 3)
    model = ridge.fit(features, labels, 3, 1.0)
    wanted = (np.asarray(model.scores(features)).argmax(1) == labels).mean()
    assert ridge.accuracy(model, features, labels, rows=10) == pytest.approx(wanted)
    assert ridge.accuracy(model, features, (labels + 1) % 3) < 0.5


def test_the_strength_is_the_best_on_validation():
    train, validation = blobs(15, 64, 5), blobs(200, 64, 5, seed=1)
    strengths = [2.0**p for p in range(-20, 30, 5)]
    chosen = ridge.choose_l2(train, validation, 5, strengths)
    best = {l2: ridge.accuracy(ridge.fit(*train, 5, l2), *validation) for l2 in strengths}
    assert best[chosen] == max(best.values())
    assert chosen == min(l2 for l2 in strengths if best[l2] == max(best.values()))


@pytest.mark.parametrize("neighbours", [1, 5, 1000])
def test_nearest_neighbours_are_those_of_scikit_learn(neighbours):
    (features, labels), (test, _) = blobs(60, 16, 4), blobs(40, 16, 4, seed=1)
    count = min(neighbours, 60)
    model = KNeighborsClassifier(count, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    wanted = model.fit(features, labels).predict(test)
    np.testing.assert_array_equal(nearest((features, labels), test, 4, neighbours, rows=7), wanted)
