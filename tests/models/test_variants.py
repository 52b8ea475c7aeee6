"""Variant strings and the shapes they stand for."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.errors import BadSetting
from vit_jax.models import ENCODERS, EncoderShape, ModelSettings, parse_variant
from vit_jax.models.variants import RESNETS, TrunkShape, Variant


@pytest.mark.parametrize(
    ("encoder", "layers", "width", "mlp", "heads"),
    [
        ("Ti", 12, 192, 768, 3),
        ("S", 12, 384, 1536, 6),
        ("M", 12, 512, 2048, 8),
        ("B", 12, 768, 3072, 12),
        ("L", 24, 1024, 4096, 16),
        ("So400m", 27, 1152, 4304, 16),
        ("H", 32, 1280, 5120, 16),
        ("g", 40, 1408, 6144, 16),
        ("G", 48, 1664, 8192, 16),
        ("e", 56, 1792, 15360, 16),
    ],
)
def test_encoders_have_the_published_shapes(encoder, layers, width, mlp, heads):
    shape = EncoderShape(width, layers, mlp, heads, parallel=False, qk_norm=False, qkv_bias=True, norm="layer")
    assert parse_variant(f"{encoder}/16") == Variant(shape, 16, None)


def test_22b_is_parallel_with_norms_of_queries_and_keys_and_fewer_biases():
    shape = EncoderShape(6144, 48, 24576, 48, parallel=True, qk_norm=True, qkv_bias=False, norm="rms")
    assert parse_variant("22B/14") == Variant(shape, 14, None)


@given(st.sampled_from(sorted(ENCODERS)), st.integers(1, 1024))
def test_every_encoder_goes_with_every_patch(encoder, patch):
    assert parse_variant(f"{encoder}/{patch}") == Variant(ENCODERS[encoder], patch, None)


@pytest.mark.parametrize(
    ("layers", "units"),
    [(26, (2, 2, 2, 2)), (50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3)), (200, (3, 24, 36, 3))],
)
def test_resnets_and_hybrids_have_the_published_units(layers, units):
    """Three convolutions a unit, the root and the classifier give the name's number of layers."""
    one, two, three, four = units
    assert 3 * sum(units) + 2 == layers
    assert parse_variant(f"R{layers}x3") == Variant(None, 1, TrunkShape(units, 3, version=2))
    assert parse_variant(f"R{layers}+L/32") == Variant(ENCODERS["L"], 1, TrunkShape(units, 1, version=1))
    moved = TrunkShape((one, two, three + four), 1, version=1)
    assert parse_variant(f"R{layers}+L/16") == Variant(ENCODERS["L"], 1, moved)


def test_a_hybrid_may_have_a_wide_trunk():
    assert parse_variant("R50x2+B/32") == Variant(ENCODERS["B"], 1, TrunkShape((3, 4, 6, 3), 2, version=1))


def test_a_root_without_stages_is_followed_by_patches_of_8():
    assert parse_variant("R+Ti/16") == Variant(ENCODERS["Ti"], 8, TrunkShape((), 1, version=1))


@pytest.mark.parametrize(
    "variant",
    [
        *("", "B", "B/", "/16", "B/0", "B/016", "B/-1", "B/16.0", "B 16", "B/16/2", "B/16\n", "B/١٦"),
        *("R50", "R50x", "R50x0", "R50+", "R50+B", "R50 + B/16", "50+B/16", "Rx1", "R50x1+"),
        *(f"B/{10**7}", f"R50x{10**7}", "B/" + "9" * 5000),  # int() refuses to read the last
    ],
)
def test_what_is_no_variant_shows_how_to_write_one(variant):
    with pytest.raises(BadSetting, match=r"B/16.*R50\+B/16.*R<layers>x<width>") as error:
        parse_variant(variant)
    assert error.value.field == "variant"


@pytest.mark.parametrize(
    ("variant", "fix"),
    [
        ("So400/14", "unknown encoder 'So400'; did you mean \"So400m\"?"),
        ("R34x1", "unknown ResNet R34; there are R26, R50, R101, R152, R200"),
        ("R34+B/16", "unknown ResNet R34; there are R26, R50, R101, R152, R200"),
        ("R50+B/8", "a hybrid down-samples by 16 or 32; set `patch` for coarser tokens"),
        ("R+Ti/32", "a root without stages is released as /16 only; set `patch` for others"),
    ],
)
def test_what_is_unknown_is_named_with_what_there_is(variant, fix):
    with pytest.raises(BadSetting) as error:
        parse_variant(variant)
    assert str(error.value) == f"variant = {variant!r}: {fix}"


PIECES = ["R", "50", "26", "x", "1", "0", "+", "B", "Ti", "22B", "/", "16", "32", "-", " ", "²", "٣"]


@given(st.text(max_size=8) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_any_text_is_a_variant_or_a_bad_setting(text):
    try:
        found = parse_variant(text)
    except BadSetting as error:
        found, blamed = None, (error.field, error.value)
    if found is None:
        assert blamed == ("variant", text)
    else:
        assert found.patch >= 1
        assert ("/" in text) == (found.encoder is not None)
        assert text.startswith("R") == (found.trunk is not None)


def test_all_listed_names_make_settings():
    names = [f"{encoder}/{patch}" for encoder, patch in itertools.product(ENCODERS, (8, 14, 16, 32))]
    names += [f"R{layers}x{width}" for layers, width in itertools.product(RESNETS, (1, 2, 3, 4))]
    names += [f"R{layers}+{e}/{by}" for layers, e, by in itertools.product(RESNETS, ENCODERS, (16, 32))]
    for name in [*names, "R+Ti/16"]:
        assert ModelSettings(name).resolved == parse_variant(name)


def test_overrides_replace_single_values_of_the_variant():
    resolved = ModelSettings("B/32", depth=3, mlp_dim=100).resolved
    assert resolved == Variant(EncoderShape(width=768, depth=3, mlp_dim=100, heads=12), 32, None)
