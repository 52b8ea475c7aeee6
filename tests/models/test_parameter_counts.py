"""Parameter counts of every named model, exact to the last scalar; nothing is computed.

The counts were derived from the published shapes and, where timm publishes one, agree with its table.
"""

import math

import pytest

from vit_jax.models import Model, ModelSettings

JFT_CLASSES = 18_291

# Backbone with class token and final norm | with a 1000-class head | with pre-logits too | pre-training form on JFT.
# ResNets have no pre-logits.
COUNTS = {
    "Ti/16": (5_524_416, 5_717_416, 5_754_472, 9_091_635),
    "S/32": (22_493_952, 22_878_952, 23_026_792, 29_683_827),
    "S/16": (21_665_664, 22_050_664, 22_198_504, 28_855_539),
    "B/32": (87_455_232, 88_224_232, 88_814_824, 102_111_603),
    "B/16": (85_798_656, 86_567_656, 87_158_248, 100_455_027),
    "L/32": (305_510_400, 306_535_400, 307_585_000, 325_308_275),
    "L/16": (303_301_632, 304_326_632, 305_376_232, 323_099_507),
    "H/14": (630_764_800, 632_045_800, 633_685_480, 655_835_251),
    "R50x1": (23_500_352, 25_549_352, None, 60_978_611),
    "R50x2": (93_891_712, 97_988_712, None, 168_829_939),
    "R50x3": (211_174_080, 217_319_080, None, 323_572_275),
    "R101x1": (42_492_480, 44_541_480, None, 79_970_739),
    "R101x3": (381_789_888, 387_934_888, None, 494_188_083),
    "R152x1": (58_136_128, 60_185_128, None, 95_614_387),
    "R152x2": (232_238_208, 236_335_208, None, 307_176_435),
    "R152x4": (928_340_224, 936_533_224, None, 1_078_198_387),
    "R200x3": (562_488_000, 568_633_000, None, 674_886_195),
    "R50+B/32": (110_176_832, 110_945_832, 111_536_424, 124_833_203),
    "R50+B/16": (97_890_112, 98_659_112, 99_249_704, 112_546_483),
    "R50+L/32": (327_969_856, 328_994_856, 330_044_456, 347_767_731),
    "R50+L/16": (315_458_624, 316_483_624, 317_533_224, 335_256_499),
    "R26+S/32": (36_046_912, 36_431_912, 36_579_752, 43_236_787),
}
# Released models that the table above lacks, with a 1000-class head.
WITH_HEAD = {"B/8": 86_576_872, "R+Ti/16": 6_337_704, "R26+B/32": 101_383_976}
RESNETS_21K = {"R50x1": 68_256_659}

# Millions, without class token and head.
MILLIONS_WITHOUT_CLASS_TOKEN = {
    "M/16": 38.32,
    "So400m/14": 412.44,
    "g/14": 1011.2,
    "G/14": 1842.8,
    "e/14": 3805.4,
}


def count(variant, classes, **options):
    return Model(ModelSettings(variant, **options), (224, 224), 3, classes).parameter_count


@pytest.mark.parametrize("variant", COUNTS)
def test_counts_are_exact(variant):
    backbone, with_head, with_pre_logits, jft = COUNTS[variant]
    pre_logits = with_pre_logits is not None
    assert count(variant, 0) == backbone
    assert count(variant, 1000) == with_head
    assert count(variant, JFT_CLASSES, pre_logits=pre_logits) == jft
    if pre_logits:
        assert count(variant, 1000, pre_logits=True) == with_pre_logits


@pytest.mark.parametrize(("variant", "expected"), WITH_HEAD.items())
def test_counts_of_the_other_released_models_are_exact(variant, expected):
    assert count(variant, 1000) == expected


@pytest.mark.parametrize(("variant", "expected"), RESNETS_21K.items())
def test_counts_with_the_21843_classes_of_bit_m_are_exact(variant, expected):
    assert count(variant, 21_843) == expected


@pytest.mark.parametrize(
    ("variant", "expected"), [("S/16", 22_049_896), ("S/32", 22_878_184), ("B/16", 86_566_120), ("B/32", 88_222_696)]
)
def test_counts_without_a_class_token_are_exact(variant, expected):
    assert count(variant, 1000, pool="gap") == expected


@pytest.mark.parametrize(("variant", "millions"), MILLIONS_WITHOUT_CLASS_TOKEN.items())
def test_encoders_of_later_papers_have_the_published_size(variant, millions):
    decimals = len(str(millions).partition(".")[2])
    assert round(count(variant, 0, pool="gap") / 1e6, decimals) == millions


def test_22b_has_the_published_number_of_matrix_elements():
    shapes = Model(ModelSettings("22B/14"), (224, 224), 3, 0).shapes
    matrices = [name for name in shapes if name.startswith(("blocks/attn/", "blocks/mlp/")) and name.endswith("kernel")]
    assert len(matrices) == 6
    assert round(sum(math.prod(shapes[name]) for name in matrices) / 1e6) == 21_743


def test_e_with_its_published_head_has_3926_million():
    assert round(count("e/14", 29_593, pool="map") / 1e6, 1) == 3926.4
