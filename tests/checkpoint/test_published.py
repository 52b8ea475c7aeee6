"""The table of published files."""

import pytest

from vit_jax.checkpoint import PublishedFile, find_published, published
from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings

# Listed by hand from the READMEs of vision_transformer and big_transfer, and the sources of timm 1.0.31.
EXPECTED = {
    "imagenet21k/ViT-B_16": PublishedFile(
        "imagenet21k/ViT-B_16",
        "B/16",
        "gs://vit_models/imagenet21k/ViT-B_16.npz",
        "imagenet21k",
        224,
        21_843,
        "vit_base_patch16_224.orig_in21k",
    ),
    "imagenet21k+imagenet2012/R50+ViT-B_16": PublishedFile(
        "imagenet21k+imagenet2012/R50+ViT-B_16",
        "R50+B/16",
        "gs://vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz",
        "imagenet21k+imagenet2012",
        384,
        1000,
        "vit_base_r50_s16_384.orig_in21k_ft_in1k",
    ),
    "imagenet21k+imagenet2012/ViT-L_16-224": PublishedFile(
        "imagenet21k+imagenet2012/ViT-L_16-224",
        "L/16",
        "gs://vit_models/imagenet21k+imagenet2012/ViT-L_16-224.npz",
        "imagenet21k+imagenet2012",
        224,
        1000,
    ),
    "BiT-M-R50x1": PublishedFile(
        "BiT-M-R50x1",
        "R50x1",
        "gs://bit_models/BiT-M-R50x1.npz",
        "imagenet21k",
        None,
        21_843,
        "resnetv2_50x1_bit.goog_in21k",
    ),
    "timm/vit_huge_patch14_224.orig_in21k": PublishedFile(
        "timm/vit_huge_patch14_224.orig_in21k",
        "H/14",
        "hf://timm/vit_huge_patch14_224.orig_in21k",
        "imagenet21k",
        224,
        0,
        "vit_huge_patch14_224.orig_in21k",
    ),
}
EVERY = [
    *("Ti/16", "S/32", "S/16", "B/32", "B/16", "B/8", "L/32", "L/16", "H/14"),
    *("R+Ti/16", "R26+S/32", "R26+B/32", "R50+B/16", "R50+L/32"),
]
BIT = ["R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4"]


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("end", ["", ".npz"])
def test_a_short_name_finds_its_file(name, end):
    assert find_published(name + end) == EXPECTED[name]


@pytest.mark.parametrize("variant", [*EVERY, *BIT])
def test_every_released_model_has_files_that_can_be_found_again(variant):
    files = published(variant)
    assert files
    for file in files:
        assert find_published(file.name) == file
        Model(ModelSettings(file.variant), (file.image_size or 224,) * 2, 3, file.classes)


def test_models_have_as_many_files_as_were_listed():
    of_vit = {"imagenet21k": 9, "imagenet21k+imagenet2012": 8, "sam": 5, "augreg": 29}
    files = [file for variant in [*EVERY, *BIT] for file in published(variant)]
    assert {folder: sum(f.name.startswith(f"{folder}/") for f in files) for folder in of_vit} == of_vit
    assert sum(f.location.startswith("gs://bit_models/") for f in files) == 3 * 6 + 4
    assert len({f.location for f in files}) == len(files) == sum(of_vit.values()) + 22
    timm = [f.timm for f in files if f.timm]
    assert len(timm) == len(set(timm)) == 56


def test_models_that_were_never_released_have_none():
    assert published("R200x3") == published("G/14") == published("nonsense") == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet21k/ViT-B_17", 'did you mean "imagenet21k/ViT-B_16"'),
        ("imagenet21/ViT-B_16", 'did you mean "imagenet21k/ViT-B_16"'),
        ("BiT-M-R51x1", 'did you mean "BiT-M-R50x1"'),
        ("vit_base_patch16_224.sam_in1k", 'did you mean "timm/vit_base_patch16_224.sam_in1k"'),
        ("sam/x", "known: sam/ViT-B_16, sam/ViT-B_32, sam/ViT-L_16, sam/ViT-L_32, sam/ViT-S_16"),
        ("augreg/Ti_16", "52,268 files named"),
        ("gsam/ViT-B_16", "gs://vit_models/gsam/<file>.npz"),
    ],
)
def test_a_near_miss_is_answered_with_what_there_is(name, expected):
    with pytest.raises(UserError) as error:
        find_published(name)
    assert repr(name) in str(error.value)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "w", "w/export/model.npz", "/tmp/x", "gs://bucket/x.npz", "imagenet21k", "model"])
def test_what_is_no_published_name_is_left_to_others(name):
    assert find_published(name) is None
