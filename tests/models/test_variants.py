"""Variant strings and the shapes they stand for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.errors import BadSetting
from vit_jax.models import ENCODERS, EncoderShape, ModelSettings, parse_variant


@pytest.mark.parametrize(
    ("encoder", "layers", "width", "mlp", "heads"),
    [
        ("Ti", 12, 192, 768, 3),
        ("S", 12, 384, 1536, 6),
        ("B", 12, 768, 3072, 12),
        ("L", 24, 1024, 4096, 16),
        ("H", 32, 1280, 5120, 16),
        ("g", 40, 1408, 6144, 16),
        ("G", 48, 1664, 8192, 16),
    ],
)
def test_encoders_have_the_published_shapes(encoder, layers, width, mlp, heads):
    assert parse_variant(f"{encoder}/16")[0] == EncoderShape(width=width, depth=layers, mlp_dim=mlp, heads=heads)


@given(st.sampled_from(sorted(ENCODERS)), st.integers(1, 1024))
def test_every_encoder_goes_with_every_patch(encoder, patch):
    assert parse_variant(f"{encoder}/{patch}") == (ENCODERS[encoder], patch)


@pytest.mark.parametrize(
    "variant", ["", "B", "B/", "/16", "B/0", "B/016", "B/-1", "B/16.0", "B 16", "B/16/2", "B/16\n"]
)
def test_what_is_no_variant_shows_how_to_write_one(variant):
    with pytest.raises(BadSetting, match="B/16") as error:
        parse_variant(variant)
    assert error.value.field == "variant"


def test_an_unknown_encoder_gets_a_suggestion():
    with pytest.raises(BadSetting, match='did you mean "So400m"'):
        parse_variant("So400/14")


@given(st.text(max_size=8).filter(lambda text: text.split("/")[0] not in ENCODERS))
def test_any_other_text_is_refused_as_a_bad_setting(text):
    with pytest.raises(BadSetting) as error:
        parse_variant(text)
    assert error.value.field == "variant"


def test_overrides_replace_single_values_of_the_variant():
    settings = ModelSettings("B/32", depth=3, mlp_dim=100)
    assert settings.encoder == EncoderShape(width=768, depth=3, mlp_dim=100, heads=12)
    assert settings.patch == 32
