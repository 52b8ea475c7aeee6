"""Settings of a model: what is accepted, and what the errors say."""

import pytest

from vit_jax.errors import BadSetting
from vit_jax.models import Model, ModelSettings
from vit_jax.settings import build


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("variant", "Q/16", "unknown encoder"),
        ("width", 0, "at least 1"),
        ("depth", 0, "at least 1"),
        ("mlp_dim", -1, "at least 1"),
        ("heads", 0, "at least 1"),
        ("heads", 5, "must divide the width 768"),
        ("dropout", 1.0, "below 1"),
        ("dropout", -0.1, "at least 0"),
        ("dropout", float("nan"), "at least 0"),
        ("pool", "mean", "token, gap"),
        ("dtype", "float16", "float32, bfloat16"),
        ("remat", "some", "none, dots, full"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(field, value, fix):
    with pytest.raises(BadSetting, match=fix) as error:
        ModelSettings(**{field: value})
    assert error.value.field == field


def test_the_whole_key_is_named_when_it_comes_from_a_config():
    with pytest.raises(BadSetting, match=r"^config\.model\.heads = 5: must divide"):
        build(ModelSettings, {"heads": 5}, "config.model")


def test_the_number_of_heads_that_would_do_is_shown():
    with pytest.raises(BadSetting, match=r"\[1, 2, 3, 4, 6, 8\] do"):
        ModelSettings(width=24, heads=5)


@pytest.mark.parametrize("size", [(224, 225), (8, 16), (0, 16)])
def test_an_image_that_patches_do_not_tile_is_refused(size):
    with pytest.raises(BadSetting, match="patch size 16 of variant B/16") as error:
        Model(ModelSettings("B/16"), size, 3, 10)
    assert error.value.field == "image_size"


def test_sizes_near_the_wanted_one_are_shown():
    with pytest.raises(BadSetting, match=r"\[224, 240\] would be"):
        Model(ModelSettings("B/16"), (230, 230), 3, 10)


def test_a_model_needs_a_class():
    with pytest.raises(BadSetting, match="at least 1") as error:
        Model(ModelSettings(), (224, 224), 3, 0)
    assert error.value.field == "classes"
