"""The BiT ResNet as a classifier: what stands around its trunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import Model, ModelSettings

from .reference import in_float64, random_images, random_params

UNITS = (1, 2)
POSITIONS, CHANNELS = 2 * 2, 512


def resnet(classes: int = 7, **options) -> Model:
    return Model(
        ModelSettings("R26x1", **{"trunk_units": UNITS, "scan": False, "remat": "none", **options}), (9, 13), 3, classes
    )


def normed(x: np.ndarray, p: dict) -> np.ndarray:
    """GroupNorm of (b, h, w, c) in groups of neighbouring channels, then ReLU."""
    result = np.empty_like(x)
    for image in range(len(x)):
        for group in range(32):
            part = slice(group * x.shape[-1] // 32, (group + 1) * x.shape[-1] // 32)
            cut = x[image, ..., part]
            result[image, ..., part] = (cut - cut.mean()) / np.sqrt(cut.var() + 1e-5)
    return np.maximum(result * p["scale"] + p["bias"], 0.0)


@pytest.fixture(scope="module", params=[1, 2])
def run(request):
    """(version, float64 parameters, features of a call with all of them)."""
    model = resnet(trunk_version=request.param)
    params = random_params(model)
    features = jax.jit(model.apply, static_argnames="blocks")(params, random_images(model), blocks=True)
    return request.param, in_float64(params), in_float64(features)


def test_tokens_are_the_last_unit_normalised_by_groups(run):
    version, params, features = run
    last = features["blocks"][-1]
    assert last.shape == (3, 2, 2, CHANNELS)
    expected = normed(last, params["norm"]) if version == 2 else last  # version 1 ends normalised
    assert expected.std() > 0.1
    np.testing.assert_allclose(features["tokens"], expected.reshape(3, POSITIONS, CHANNELS), rtol=1e-4, atol=1e-4)


def test_the_classifier_reads_the_mean_of_all_positions(run):
    _, params, features = run
    mean = features["tokens"].mean(axis=1)
    np.testing.assert_allclose(features["pre_logits"], mean, rtol=1e-5, atol=1e-5)
    expected = mean @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(features["logits"], expected, rtol=1e-4, atol=1e-4)


def test_the_stem_is_the_roots_output_and_blocks_are_units(run):
    _, _, features = run
    assert features["stem"].shape == (3, 3, 4, 64)
    assert [output.shape for output in features["blocks"]] == [(3, 3, 4, 256), (3, 2, 2, 512), (3, 2, 2, 512)]


def test_only_version_2_has_a_norm_of_its_own():
    one, two = resnet(trunk_version=1).shapes, resnet(trunk_version=2).shapes
    assert two["norm/scale"] == two["norm/bias"] == (CHANNELS,)
    assert not any(name.startswith("norm/") for name in one)
    assert {name: two[name] for name in two if not name.startswith(("trunk/", "norm/"))} == {
        "head/kernel": (CHANNELS, 7),
        "head/bias": (7,),
    }


def test_a_fresh_classifier_gives_its_bias_alone():
    model = resnet(head_bias=-10.0, trunk_units=(1,))
    params = random_params(model) | {"head": jax.jit(model.init)(jax.random.key(0))["head"]}
    np.testing.assert_array_equal(jax.jit(model.apply)(params, random_images(model))["logits"], np.full((3, 7), -10.0))


def test_a_key_changes_nothing():
    model = resnet(trunk_units=(1,))
    params, images = random_params(model), random_images(model)
    apply = jax.jit(model.apply)
    with_key = apply(params, images, dropout_key=jax.random.key(0))["logits"]
    np.testing.assert_array_equal(with_key, apply(params, images)["logits"])


def test_bfloat16_computes_nearly_the_same(run):
    version, _, features = run
    model = resnet(trunk_version=version, dtype="bfloat16")
    params = random_params(model)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.abstract_params)} == {"float32"}
    found = jax.jit(model.apply)(params, random_images(model))
    assert (found["tokens"].dtype, found["logits"].dtype) == (jnp.bfloat16, jnp.float32)
    difference = np.linalg.norm(found["logits"] - features["logits"])
    assert difference < 0.03 * np.linalg.norm(features["logits"])
