"""Settings of a model: what is accepted, and what the errors say."""

import dataclasses

import pytest

from vit_jax.errors import BadSetting
from vit_jax.models import EncoderShape, ModelSettings
from vit_jax.models.variants import TrunkShape, Variant
from vit_jax.settings import build, to_dict

NAN = float("nan")
AXIAL = {"axial": True, "pool": "gap"}
ONLY = "use pool gap, map, first or none, and no class token, registers or relative posemb"
STEM = "needs pool token, gap or map, no axial blocks, and position embeddings added at the stem only"

# The field that is to blame, what is set besides it, and the fix.
REFUSED = [
    ("variant", "Q/16", {}, "unknown encoder 'Q'"),
    *((field, 0, {}, "must be at least 1") for field in ("width", "depth", "mlp_dim", "heads", "patch")),
    ("mlp_dim", -1, {}, "must be at least 1"),
    ("heads", 5, {}, "must divide the width 768"),
    ("pool", "mean", {}, "must be one of token, gap, map, first, none"),
    ("posemb", "rotary", {}, "must be one of learned_1d, learned_2d, relative, sincos_2d, none"),
    ("posemb_at", "head", {}, "must be one of stem, every_layer, shared"),
    ("norm", "batch", {}, "must be one of layer, rms"),
    ("gelu", "exact", {}, "must be one of tanh, erf"),
    ("attention", "flash", {}, "must be one of auto, plain, xla, cudnn, pallas"),
    ("dtype", "float16", {}, "must be one of float32, bfloat16"),
    ("remat", "some", {}, "must be one of none, dots, full"),
    *(
        (field, value, {}, "must be at least 0 and below 1")
        for field in ("dropout", "attention_dropout", "stochastic_depth", "patch_dropout")
        for value in (1.0, -0.1, NAN)
    ),
    *(("norm_epsilon", value, {}, "must be above 0 and below 1") for value in (0.0, 1.0, NAN)),
    ("registers", -1, {}, "must not be negative"),
    *(("layer_scale", value, {}, "must not be negative") for value in (-0.1, NAN)),
    ("posemb", "learned_2d", {"width": 15, "heads": 5}, "needs a width that 2 divides; it is 15"),
    ("posemb", "sincos_2d", {"width": 18, "heads": 6}, "needs a width that 4 divides; it is 18"),
    ("parallel", True, AXIAL, "axial blocks have their attention and MLPs one after the other"),
    ("axial", True, {}, ONLY),
    ("axial", True, {"pool": "token"}, ONLY),
    ("axial", True, {"pool": "gap", "registers": 1}, ONLY),
    ("axial", True, {"pool": "gap", "posemb": "relative"}, ONLY),
    *(("patch_dropout", 0.5, {"pool": pool}, STEM) for pool in ("first", "none")),
    ("patch_dropout", 0.5, AXIAL, STEM),
    *(("patch_dropout", 0.5, {"posemb_at": at}, STEM) for at in ("every_layer", "shared")),
    ("patch_dropout", 0.5, {"posemb": "relative"}, STEM),
    ("trunk_units", (1, 0), {"variant": "R50x1"}, "must be up to four numbers of at least 1"),
    ("trunk_units", (1, 1, 1, 1, 1), {"variant": "R50+B/16"}, "must be up to four numbers of at least 1"),
    ("trunk_width", 0, {"variant": "R50x1"}, "must be at least 1"),
    ("trunk_version", 3, {"variant": "R50x1"}, "must be 1 (post-activation) or 2 (pre-activation)"),
    ("trunk_version", 2, {"variant": "R50+B/16"}, "hybrids have post-activation trunks (1), as released"),
    ("pool", "token", {"variant": "R50x1"}, "a ResNet such as R50x1 pools by gap"),
    *(
        (field, value, {"variant": "B/16"}, "B/16 has no ResNet trunk; leave it out")
        for field, value in (("trunk_units", (1,)), ("trunk_width", 1), ("trunk_version", 1))
    ),
]

# One value other than the default for everything that only an encoder has.
OF_ENCODERS = {
    "width": 768,
    "depth": 12,
    "mlp_dim": 3072,
    "heads": 12,
    "patch": 16,
    "pre_logits": True,
    "class_token": True,
    "mask_token": True,
    "posemb": "none",
    "posemb_at": "shared",
    "registers": 1,
    "parallel": False,
    "qk_norm": True,
    "qkv_bias": False,
    "norm": "rms",
    "norm_epsilon": 1e-12,
    "gelu": "erf",
    "layer_scale": 0.1,
    "axial": True,
    "attention": "plain",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "stochastic_depth": 0.1,
    "patch_dropout": 0.1,
}
OF_TRUNKS = {"trunk_units": (1, 2), "trunk_width": 2, "trunk_version": 1}
OF_ALL = {"variant": "R50x1", "pool": "gap", "head_bias": -10.0, "dtype": "bfloat16", "scan": False, "remat": "full"}


@pytest.mark.parametrize(("field", "value", "others", "fix"), REFUSED)
def test_a_refusal_names_the_field_the_value_and_the_fix(field, value, others, fix):
    with pytest.raises(BadSetting) as error:
        ModelSettings(**{field: value, **others})
    assert str(error.value).startswith(f"{field} = {value!r}: ")
    assert fix in str(error.value)


def test_every_setting_is_for_encoders_for_trunks_or_for_all():
    names = [field.name for field in dataclasses.fields(ModelSettings)]
    assert sorted(names) == sorted([*OF_ENCODERS, *OF_TRUNKS, *OF_ALL])
    ModelSettings(**OF_ALL, **OF_TRUNKS)


@pytest.mark.parametrize(("field", "value"), OF_ENCODERS.items())
def test_a_resnet_has_none_of_an_encoders_settings(field, value):
    with pytest.raises(BadSetting) as error:
        ModelSettings("R50x1", **{field: value})
    assert str(error.value) == f"{field} = {value!r}: R50x1 has no encoder; leave it out"


def test_the_whole_key_is_named_when_it_comes_from_a_config():
    with pytest.raises(BadSetting, match=r"^config\.model\.heads = 5: must divide"):
        build(ModelSettings, {"heads": 5}, "config.model")


def test_the_number_of_heads_that_would_do_is_shown():
    with pytest.raises(BadSetting, match=r"\[1, 2, 3, 4, 6, 8\] do"):
        ModelSettings(width=24, heads=5)


def test_22b_is_resolved_with_its_flags_and_each_can_be_overridden():
    shape = ModelSettings("22B/14").resolved.encoder
    assert (shape.parallel, shape.qk_norm, shape.qkv_bias, shape.norm) == (True, True, False, "rms")
    plain = {"parallel": False, "qk_norm": False, "qkv_bias": True, "norm": "layer"}
    for name, value in plain.items():
        assert ModelSettings("22B/14", **{name: value}).resolved.encoder == dataclasses.replace(shape, **{name: value})
    assert ModelSettings("22B/14", **plain).resolved.encoder == EncoderShape(6144, 48, 24576, 48)


def test_overrides_of_encoder_patch_and_trunk_are_resolved():
    settings = ModelSettings("R50+B/16", depth=2, patch=2, trunk_units=(1, 2), trunk_width=3)
    assert settings.resolved == Variant(EncoderShape(768, 2, 3072, 12), 2, TrunkShape((1, 2), 3, version=1))
    resnet = ModelSettings("R50x3", trunk_version=1).resolved
    assert resnet == Variant(None, 1, TrunkShape((3, 4, 6, 3), 3, version=1))
    assert ModelSettings("R50x1", trunk_units=()).resolved.trunk.units == ()


@pytest.mark.parametrize(
    ("variant", "pool", "expected"),
    [("B/16", None, "token"), ("R50+B/16", None, "token"), ("R50x1", None, "gap"), ("B/16", "map", "map")],
)
def test_the_family_decides_how_to_pool(variant, pool, expected):
    assert ModelSettings(variant, pool=pool).pooling == expected


def test_settings_are_built_from_a_config_with_lists_for_tuples():
    settings = build(ModelSettings, {"variant": "R50+B/16", "trunk_units": [1, 2], "layer_scale": 1})
    assert settings == ModelSettings("R50+B/16", trunk_units=(1, 2), layer_scale=1.0)
    assert hash(settings) == hash(ModelSettings("R50+B/16", trunk_units=(1, 2), layer_scale=1.0))
    assert build(ModelSettings, to_dict(settings)) == settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"trunk_units": 3}, "config.trunk_units = 3: must be tuple[int, ...]"),
        ({"trunk_units": [1, "2"]}, "config.trunk_units[1] = '2': must be int, not str"),
        ({"registers": 1.5}, "config.registers = 1.5: must be int, not float"),
        ({"axial": 1}, "config.axial = 1: must be bool, not int"),
        ({"pos_emb": "none"}, "config.pos_emb = 'none': unknown key; did you mean \"posemb\"?"),
    ],
)
def test_wrong_types_and_keys_of_a_config_are_named(config, message):
    with pytest.raises(BadSetting) as error:
        build(ModelSettings, config)
    assert str(error.value) == message
