"""`vit_jax models`: the list, its numbers, and what it does with names it does not know."""

import json

import pytest

from vit_jax.checkpoint import find_published
from vit_jax.cli import models

KEYS = ["name", "family", "params", "gflops", "tokens", "image_size", "classes", "width", "depth", "published"]

# The tables of the ViT and BiT papers: parameters with a 1000-class head, GFLOPs (2 x GMAC), tokens, width, depth.
EXPECTED = {
    "Ti/16": ("ViT", 5_717_416, 2 * 1.253, 197, 192, 12),
    "B/32": ("ViT", 88_224_232, 2 * 4.408, 50, 768, 12),
    "H/14": ("ViT", 632_045_800, 2 * 167.294, 257, 1280, 32),
    "R50+B/16": ("hybrid", 98_659_112, 2 * 21.535, 197, 768, 12),
    "R50x1": ("ResNet", 25_549_352, 2 * 4.087, 49, 2048, 16),
    "R152x4": ("ResNet", 936_533_224, 2 * 182.769, 49, 8192, 50),
}


@pytest.fixture
def untraced(monkeypatch):
    """Makes rows without tracing the models."""

    def row(model):
        found = {**dict.fromkeys(KEYS, 0), "name": model.settings.variant, "family": "?"}
        return found | {"published": models._published_names(model.settings.variant)}

    monkeypatch.setattr(models, "_row", row)


def test_the_list_names_every_released_and_every_paper_model(call, untraced):
    vits = "Ti/16 S/32 S/16 M/16 B/32 B/16 B/8 L/32 L/16 So400m/14 H/14 g/14 G/14 e/14 22B/14"
    hybrids = "R+Ti/16 R26+S/32 R26+B/32 R50+B/32 R50+B/16 R50+L/32 R50+L/16"
    resnets = "R50x1 R50x2 R50x3 R101x1 R101x3 R152x1 R152x2 R152x4 R200x3"
    expected = f"{vits} {hybrids} {resnets}".split()
    assert [line.split()[0] for line in call("models").out.splitlines()[1:]] == expected
    toys = ["mu/16", "nano/16"]
    assert [line.split()[0] for line in call("models", "--all").out.splitlines()[1:]] == toys + expected


def test_every_published_name_of_the_list_can_be_found(call, untraced):
    rows = json.loads(call("models", "--json").out)
    assert sum(len(row["published"]) for row in rows) > 100
    for row in rows:
        for name in row["published"]:
            found = find_published(name)
            assert found is not None
            assert found.variant == row["name"]
    assert next(row for row in rows if row["name"] == "R152x1")["published"] == []


def test_numbers_are_the_papers(call):
    rows = json.loads(call("models", *EXPECTED, "--json").out)
    assert [row["name"] for row in rows] == list(EXPECTED)
    for row in rows:
        family, params, gflops, tokens, width, depth = EXPECTED[row["name"]]
        assert list(row) == KEYS
        assert row["gflops"] == pytest.approx(gflops, abs=1.1e-3)  # twice a number of three decimals
        assert (row["family"], row["params"], row["tokens"]) == (family, params, tokens)
        assert (row["width"], row["depth"], row["image_size"], row["classes"]) == (width, depth, 224, 1000)


def test_size_and_classes_change_what_they_should(call):
    base, large = (json.loads(call("models", "B/16", "--json", *more).out)[0] for more in ([], ["--image_size=384"]))
    assert (large["tokens"], large["image_size"]) == (577, 384)
    assert large["params"] - base["params"] == (577 - 197) * 768
    embedding, projections, attention = 576 * 768**2, 12 * 577 * 768**2, 2 * 577**2 * 768
    assert large["gflops"] == pytest.approx(2 * (embedding + 12 * (projections + attention)) / 1e9, abs=1e-3)
    headless = json.loads(call("models", "B/16", "--json", "--classes=0").out)[0]
    assert (headless["params"], headless["gflops"]) == (85_798_656, base["gflops"])


def test_the_table_is_aligned_and_shows_file_names_for_names(call):
    lines = call("models", "S/32", "R50x2").out.splitlines()
    heading = ["name", "family", "params", "GFLOPs", "tokens", "published"]
    assert lines[0].split() == heading
    assert lines[1].split() == ["S/32", "ViT", "22,878,952", "2.3", "50", "3"]
    assert [line.strip() for line in lines[2:-1] if not line.strip().startswith("timm/")] == [
        "augreg/S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0",
        "augreg/S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224",
        "augreg/S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_384",
    ]
    assert sum("timm/vit_small_patch32_" in line for line in lines) == 3
    assert lines[-1].split() == ["R50x2", "ResNet", "97,988,712", "32.2", "49", "-"]
    assert len(lines[0]) == len(lines[1]) == len(lines[-1])


def test_any_variant_can_be_named(call):
    assert call("models", "S/8").out.splitlines()[1].split()[:2] == ["S/8", "ViT"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["B16"], "variant = 'B16'"),
        (["Ti/16", "So400/14"], 'did you mean "So400m"'),
        (["B/16", "--image_size=8"], "image_size = (8, 8)"),
        (["B/16", "--classes=-1"], "classes = -1"),
        (["B/16", "--config.model.depth=3"], "unknown argument '--config.model.depth=3'"),
    ],
)
def test_what_cannot_be_listed_ends_in_one_line(argv, expected, call):
    status, out, err = call("models", *argv)
    assert (status, out) == (2, "")
    assert expected in err
    assert err.startswith("vit_jax models: ")
    assert err.count("\n") == 1
