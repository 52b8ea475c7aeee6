"""Filters: principal components against scikit-learn, roots in their order."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from vit_jax.inspect import pixel_filters, principal_components
from vit_jax.models import Model, ModelSettings

from ..models.reference import random_params


def rescaled(picture):
    return (picture - picture.min()) / (picture.max() - picture.min())


@pytest.mark.parametrize(("m", "n", "count"), [(64, 48, 28), (64, 12, 28), (10, 40, 28), (40, 12, 3)])
def test_principal_components_are_those_of_scikit_learn(m, n, count):
    random = np.random.default_rng(0)
    rows = random.normal(size=(m, n)) @ random.normal(size=(n, n)) + 3.0
    components, explained = principal_components(rows, count)
    expected = PCA(svd_solver="full").fit(rows)
    have = min(count, m, n)
    assert (components.shape, explained.shape) == ((have, n), (have,))
    np.testing.assert_allclose(explained, expected.explained_variance_ratio_[:have], atol=1e-10)
    known = min(have, m - 1)  # m centred rows span m - 1 dimensions
    np.testing.assert_allclose(np.abs((components * expected.components_[:have]).sum(axis=1))[:known], 1.0, atol=1e-8)
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    assert (largest > 0).all()


def test_filters_without_variance_explain_nothing():
    components, explained = principal_components(np.ones((5, 3)), 28)
    assert np.isfinite(components).all()
    np.testing.assert_array_equal(explained, 0.0)


def test_the_components_of_a_patch_embedding_come_as_pictures_from_0_to_1():
    model = Model(ModelSettings("mu/4", width=64), (8, 8), 3, 5)
    params = random_params(model)
    found = pixel_filters(model, params)
    assert (found.pictures.shape, found.number, found.explained.shape) == ((28, 4, 4, 3), 64, (28,))
    kernel = np.asarray(params["embedding"]["kernel"], np.float64)
    filters = np.stack([kernel[..., d].ravel() for d in range(64)])
    for picture, component in zip(found.pictures, PCA(28, svd_solver="full").fit(filters).components_, strict=True):
        picture, component = picture.ravel().astype(np.float64), rescaled(component)
        assert (picture.min(), picture.max()) == (0.0, 1.0)
        assert min(np.abs(picture - component).max(), np.abs(picture - (1 - component)).max()) < 1e-5


def test_one_strong_pattern_is_the_first_component():
    model = Model(ModelSettings("mu/4", width=64), (8, 8), 3, 5)
    params = random_params(model)
    pattern = np.zeros((4, 4, 3))
    pattern[:2], pattern[2:] = 1.0, -1.0
    strength = np.random.default_rng(0).normal(size=64)
    noise = 0.01 * np.random.default_rng(1).normal(size=(4, 4, 3, 64))
    params["embedding"]["kernel"] = pattern[..., None] * strength + noise
    found = pixel_filters(model, params)
    assert found.explained[0] > 0.99
    first = found.pictures[0] if found.pictures[0, 0, 0, 0] > 0.5 else 1 - found.pictures[0]
    np.testing.assert_allclose(first, (pattern + 1) / 2, atol=0.05)


@pytest.mark.parametrize(
    ("variant", "options", "number"), [("R26+mu/16", {"trunk_units": (1,)}, 64), ("R26x3", {"trunk_units": (1,)}, 192)]
)
def test_a_trunk_shows_the_filters_of_its_root_in_their_order(variant, options, number):
    model = Model(ModelSettings(variant, **options), (16, 16), 3, 5)
    params = random_params(model)
    found = pixel_filters(model, params)
    kernel = np.asarray(params["trunk"]["root"]["kernel"])
    assert (found.pictures.shape, found.number, found.explained) == ((number, 7, 7, 3), number, None)
    for i in (0, 1, number - 1):
        np.testing.assert_allclose(found.pictures[i], rescaled(kernel[..., i]), atol=1e-6)
        standardised = (kernel[..., i] - kernel[..., i].mean()) / kernel[..., i].std()
        np.testing.assert_allclose(found.pictures[i], rescaled(standardised), atol=1e-5)


def test_a_constant_filter_is_black():
    model = Model(ModelSettings("R26x1", trunk_units=(1,)), (16, 16), 1, 5)
    params = random_params(model)
    params["trunk"]["root"]["kernel"] = np.ones((7, 7, 1, 64), np.float32)
    np.testing.assert_array_equal(pixel_filters(model, params).pictures, np.zeros((64, 7, 7, 1)))
