"""The face of every family: sizes of images and tokens, names and shapes of features, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.errors import BadSetting
from vit_jax.models import Model, ModelSettings, normalize

from . import reference
from .reference import CHANNELS, CLASSES, EMBED, random_images, random_params, small

HYBRID = {"variant": "R26+mu/16", "trunk_units": (1, 2)}  # one position for 8 x 8 pixels


def features_of(model: Model, batch: int = 3, **options):
    """Names and shapes of what a call returns; tuples become lists."""
    images = jnp.zeros((batch, *model.image_size, model.channels))
    found = jax.eval_shape(lambda p, x: model.apply(p, x, **options), model.abstract_params, images)
    return {name: [v.shape for v in f] if isinstance(f, tuple) else f.shape for name, f in found.items()}


# --- sizes ---


@pytest.mark.parametrize(
    ("variant", "image_size", "grid", "tokens", "unseen"),
    [
        ("B/16", (224, 224), (14, 14), 197, (0, 0)),
        ("B/16", (224, 384), (14, 24), 337, (0, 0)),
        ("H/14", (384, 384), (27, 27), 730, (6, 6)),
        ("B/16", (230, 31), (14, 1), 15, (6, 15)),
        ("R50+B/16", (224, 224), (14, 14), 197, (0, 0)),
        ("R50+B/32", (224, 224), (7, 7), 50, (0, 0)),
        ("R50+B/16", (33, 47), (3, 3), 10, (0, 0)),
        ("R26+S/32", (225, 1), (8, 1), 9, (0, 0)),
        ("R+Ti/16", (224, 224), (7, 7), 50, (0, 0)),
        ("R+Ti/16", (100, 120), (3, 3), 10, (4, 24)),
        ("R+Ti/16", (31, 33), (1, 1), 2, (0, 1)),
        ("R50x1", (224, 224), (7, 7), 49, (0, 0)),
        ("R50x1", (225, 97), (8, 4), 32, (0, 0)),
    ],
)
def test_grid_tokens_and_unseen_pixels(variant, image_size, grid, tokens, unseen):
    model = Model(ModelSettings(variant), image_size, 3, 5)
    assert (model.grid, model.tokens, model.unseen_pixels) == (grid, tokens, unseen)


@pytest.mark.parametrize(
    ("variant", "image_size", "tokens"),
    [("B/16", (230, 31), 15), ("R26+S/32", (225, 1), 9), ("R+Ti/16", (100, 120), 10), ("R26x1", (225, 97), 32)],
)
def test_features_have_the_predicted_number_of_tokens(variant, image_size, tokens):
    model = Model(ModelSettings(variant), image_size, 3, 5)
    assert model.tokens == tokens == features_of(model, batch=1)["tokens"][1]


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 7),
        ({"registers": 3}, 10),
        ({"pool": "gap", "registers": 3}, 9),
        ({"pool": "map"}, 6),
        ({"pool": "none"}, 6),
    ],
)
def test_class_token_and_registers_count_as_tokens(options, tokens):
    assert small(**options).tokens == tokens == features_of(small(**options))["tokens"][1]


def test_pixels_beyond_the_last_whole_patch_are_not_seen():
    model = Model(ModelSettings("mu/4", scan=False), (11, 14), 3, CLASSES)
    assert (model.grid, model.unseen_pixels) == ((2, 3), (3, 2))
    params, images = random_params(model), random_images(model)
    apply = jax.jit(model.apply)
    expected = apply(params, images)["logits"]
    rest = images.at[:, 8:].set(1.0).at[:, :, 12:].set(-1.0)
    np.testing.assert_array_equal(apply(params, rest)["logits"], expected)
    for row, column in ((7, 0), (0, 11)):
        seen = images.at[:, row, column].add(1.0)
        assert (apply(params, seen)["logits"] != expected).any()


# --- features ---


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pool": "token"}, {"tokens": (3, 7, 16), "pre_logits": (3, 16), "logits": (3, 7)}),
        ({"pool": "gap", "registers": 2}, {"tokens": (3, 8, 16), "pre_logits": (3, 16), "logits": (3, 7)}),
        ({"pool": "first", "pre_logits": True}, {"tokens": (3, 6, 16), "pre_logits": (3, 16), "logits": (3, 7)}),
        ({"pool": "map"}, {"tokens": (3, 6, 16), "pre_logits": (3, 16), "logits": (3, 7)}),
        (
            {"pool": "none", "registers": 2, "pre_logits": True},
            {"tokens": (3, 8, 16), "pre_logits": (3, 6, 16), "logits": (3, 6, 7)},
        ),
    ],
)
def test_features_of_a_vit_have_the_documented_names_and_shapes(options, expected):
    model = small(**options)
    stem, n = {"stem": (3, 6, EMBED)}, expected["tokens"][1]
    assert features_of(model) == stem | expected
    inner = {"blocks": [(3, n, EMBED)] * 2, "attention": [(3, 4, n, n)] * 2}
    assert features_of(model, blocks=True, attention=True) == stem | expected | inner


@pytest.mark.parametrize("scan", [True, False])
def test_features_of_the_other_families_have_the_documented_names_and_shapes(scan):
    axial = small(axial=True, pool="gap", scan=scan)
    ends = {"pre_logits": (3, EMBED), "logits": (3, CLASSES)}
    plain = {"stem": (3, 6, EMBED), "tokens": (3, 6, EMBED), **ends}
    assert features_of(axial, blocks=True) == plain | {"blocks": [(3, 6, EMBED)] * 2}

    hybrid = Model(small(**HYBRID, scan=scan).settings, (15, 17), CHANNELS, CLASSES)
    plain = {"stem": (3, 6, EMBED), "tokens": (3, 7, EMBED), **ends}
    trunk = [(3, 4, 5, 64), (3, 4, 5, 256), (3, 2, 3, 512), (3, 2, 3, 512)]
    inner = {"blocks": [(3, 7, EMBED)] * 2, "attention": [(3, 4, 7, 7)] * 2, "trunk": trunk}
    assert features_of(hybrid) == plain
    assert features_of(hybrid, blocks=True, attention=True) == plain | inner

    resnet = Model(ModelSettings("R26x1", trunk_units=(1, 2), scan=scan), (15, 17), CHANNELS, CLASSES)
    plain = {"stem": trunk[0], "tokens": (3, 6, 512), "pre_logits": (3, 512), "logits": (3, CLASSES)}
    assert features_of(resnet) == plain
    assert features_of(resnet, blocks=True) == plain | {"blocks": trunk[1:]}


@pytest.mark.parametrize("variant", ["mu/4", "R26+mu/16", "R26x1"])
def test_a_model_without_classes_has_no_head_and_no_logits(variant):
    units = {} if variant == "mu/4" else {"trunk_units": (1,)}
    backbone, whole = (Model(ModelSettings(variant, **units), (8, 12), 3, classes) for classes in (0, 5))
    assert set(whole.shapes) - set(backbone.shapes) == {"head/kernel", "head/bias"}
    assert whole.parameter_count - backbone.parameter_count == 5 * whole.shapes["head/kernel"][0] + 5
    assert set(features_of(whole)) - set(features_of(backbone)) == {"logits"}


@pytest.mark.parametrize(
    "options",
    [
        {"registers": 1, "posemb": "relative", "posemb_at": "every_layer"},
        {"variant": "22B/4", "pool": "map"},
    ],
)
def test_attention_weights_are_distributions_and_asking_for_them_changes_nothing(options):
    model = small(**options, attention="xla")
    params, images = random_params(model), random_images(model, 2)
    plain = model.apply(params, images)
    more = model.apply(params, images, blocks=True, attention=True)
    for name, feature in plain.items():
        np.testing.assert_allclose(more[name], feature, rtol=1e-5, atol=1e-5)
    expected = reference.forward_batch(params, images, model.settings)
    for layer, weights in enumerate(more["attention"]):
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(weights, expected["attention"][layer], rtol=1e-4, atol=1e-5)
    last = np.asarray(more["blocks"][-1], np.float64)
    tokens = reference.norm(last, params["norm"], model.settings.resolved.encoder.norm)
    np.testing.assert_allclose(more["tokens"], tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scan", [True, False])
def test_a_function_of_attention_weights_is_applied_to_those_of_each_block(scan):
    model = small(registers=1, scan=scan)
    params, images = random_params(model), random_images(model, 2)
    whole = model.apply(params, images, attention=True)
    parts = model.apply(params, images, attention=lambda w: {"mean": w.mean(axis=1), "first": w[:, :, 0]})
    weights = jnp.stack(whole["attention"])
    assert set(parts["attention"]) == {"mean", "first"}
    np.testing.assert_allclose(parts["attention"]["mean"], weights.mean(axis=2), rtol=1e-6)
    np.testing.assert_allclose(parts["attention"]["first"], weights[:, :, :, 0], rtol=1e-6)
    np.testing.assert_allclose(parts["logits"], whole["logits"], rtol=1e-6)


def test_a_hybrid_is_a_vit_on_its_trunks_output_also_nearly_in_bfloat16():
    exact, fast = (
        Model(small(**HYBRID, dtype=d).settings, (15, 17), CHANNELS, CLASSES) for d in ("float32", "bfloat16")
    )
    params, images = random_params(exact), random_images(exact, 2)
    found = jax.jit(exact.apply, static_argnames="blocks")(params, images, blocks=True)
    expected = reference.forward_batch(params, np.asarray(found["trunk"][-1]), exact.settings)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=5e-5, atol=5e-5)

    assert {leaf.dtype.name for leaf in jax.tree.leaves(fast.abstract_params)} == {"float32"}
    near = jax.jit(fast.apply)(params, images)
    assert (near["tokens"].dtype, near["logits"].dtype) == (jnp.bfloat16, jnp.float32)
    assert np.linalg.norm(near["logits"] - found["logits"]) < 0.05 * np.linalg.norm(found["logits"])


# --- errors and helpers ---


@pytest.mark.parametrize(
    ("variant", "size", "fix"),
    [
        ("B/16", (8, 16), "holds no whole patch of variant B/16, which takes 16 pixels a side"),
        ("B/16", (16, 15), "holds no whole patch of variant B/16, which takes 16 pixels a side"),
        ("R+Ti/16", (28, 32), "holds no whole patch of variant R+Ti/16, which takes 32 pixels a side"),
        ("B/16", (0, 16), "must be at least 1 x 1"),
        ("R50x1", (32, 0), "must be at least 1 x 1"),
    ],
)
def test_an_image_without_a_whole_patch_is_refused(variant, size, fix):
    with pytest.raises(BadSetting) as error:
        Model(ModelSettings(variant), size, 3, 10)
    assert str(error.value) == f"image_size = {size!r}: {fix}"


def test_a_model_has_no_negative_number_of_classes():
    with pytest.raises(BadSetting) as error:
        Model(ModelSettings(), (224, 224), 3, -1)
    assert str(error.value) == "classes = -1: must be at least 1, or 0 for a model without classifier"


@pytest.mark.parametrize(("variant", "options"), [("R50x1", {}), ("mu/16", {"axial": True, "pool": "gap"})])
def test_attention_weights_are_refused_where_there_are_none(variant, options):
    model = Model(ModelSettings(variant, **options), (32, 32), 3, 2)
    with pytest.raises(BadSetting) as error:
        features_of(model, attention=True)
    assert str(error.value) == f"attention = True: {variant} has no attention over all tokens"


def test_shapes_and_count_agree_with_the_arrays_of_init():
    model = small(registers=2, pre_logits=True)
    params = jax.jit(model.init)(jax.random.key(0))
    assert {
        "/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)
    } == model.shapes
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == model.parameter_count


def test_pixels_are_normalised_to_plus_minus_one():
    pixels = jnp.array([0, 255, 51], jnp.uint8)
    np.testing.assert_allclose(normalize(pixels), [-1.0, 1.0, -0.6], atol=1e-6)
    assert normalize(pixels).dtype == jnp.float32
