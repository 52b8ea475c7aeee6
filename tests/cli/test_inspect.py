"""`vit_jax inspect` on a run of ours, on a published file, and on what they do not have."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vit_jax.checkpoint import load
from vit_jax.data import decode_files
from vit_jax.inspect import KINDS, attention_statistics

DOCS = Path(__file__).parents[2] / "docs" / "inspect.md"


def numbers(folder):
    return json.loads((folder / "numbers.json").read_text())


def publish(model, path):
    """Random weights as others publish them: arrays alone."""
    import jax

    from vit_jax.checkpoint import Metadata, export_npz

    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype(np.float32), model.abstract_params)
    export_npz(params, Metadata(model, tuple(f"class {i}" for i in range(model.classes)), {}), path)
    path.with_suffix(".json").unlink()
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    from vit_jax.models import Model, ModelSettings

    return publish(Model(ModelSettings("Ti/4", depth=3), (8, 8), 3, 10), tmp_path_factory.mktemp("published") / "v.npz")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from vit_jax.models import Model, ModelSettings

    model = Model(ModelSettings("R26x1"), (32, 32), 3, 10)
    return publish(model, tmp_path_factory.mktemp("published") / "R26x1.npz")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    from matplotlib import image

    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = [folder / f"{name}.png" for name in ("cat", "dog", "bird")]
    for path in paths:
        image.imsave(path, random.random((20, 24, 3)))
    return paths


def test_a_run_is_inspected_on_its_evaluation_split(call, trained, tmp_path):
    status, out, _ = call("inspect", f"--checkpoint={trained}", f"--output={tmp_path / 'new'}")
    assert status == 0
    written = sorted(str(path) for path in (tmp_path / "new").iterdir())
    assert sorted(out.splitlines()) == written
    assert out.splitlines()[0] == str(tmp_path / "new" / "index.html")
    found = numbers(tmp_path / "new")
    assert (found["checkpoint"], found["step"], found["distance"]["images"]) == (f"{trained}/checkpoints/4", 4, 128)
    assert len(found["rollout"]["names"]) == 8
    assert set(found["rollout"]["names"]) <= set("0123456789")


def test_the_images_of_a_split_are_spread_over_it(call, trained, digits_dir, tmp_path):
    from vit_jax.cli.weights import settings_of
    from vit_jax.train import open_split

    flags = ["--split=train", "--count=5", "--only=distance", "--json"]
    status, out, _ = call("inspect", f"--checkpoint={trained}", f"--output={tmp_path}", *flags)
    assert status == 0
    assert json.loads(out) == {
        "page": f"{tmp_path}/index.html",
        "files": [
            f"{tmp_path}/{name}"
            for name in ("index.html", "numbers.json", "attention_distance.png", "attention_entropy.png")
        ],
        "absent": {},
    }
    weights = load(trained)
    dataset = open_split(settings_of(weights), "train", "--split")
    every = np.concatenate([batch["image"] for batch in dataset.eval_batches(dataset.size, np.arange(dataset.size))])
    chosen = every[[0, 359, 718, 1077, 1436]]
    expected = attention_statistics(weights.metadata.model, weights.params, chosen)
    np.testing.assert_allclose(numbers(tmp_path)["distance"]["pixels"], expected.distance, rtol=1e-4)


def test_given_images_are_all_shown_by_name(call, vit, photos, tmp_path):
    flags = [f"--output={tmp_path}", "--layers=3", "--images", *photos]
    status, _, err = call("inspect", f"--checkpoint={vit}", *flags)
    assert status == 0, err
    assert "released npz: Ti/4" in err
    found = numbers(tmp_path)
    assert found["rollout"]["names"] == ["cat.png", "dog.png", "bird.png"]
    assert found["heads"]["layers"] == [3]
    weights = load(vit)
    from vit_jax.cli.weights import settings_of

    pixels = decode_files([str(path) for path in photos], settings_of(weights).data)
    expected = attention_statistics(weights.metadata.model, weights.params, pixels)
    np.testing.assert_allclose(found["distance"]["pixels"], expected.distance, rtol=1e-4)


def test_a_published_file_names_no_images_of_its_own(call, vit, tmp_path):
    status, _, err = call("inspect", f"--checkpoint={vit}", f"--output={tmp_path / 'a'}")
    assert status == 0
    assert err.splitlines()[-3:] == [f"no {kind}: no images were given" for kind in ("distance", "rollout", "heads")]
    assert numbers(tmp_path / "a")["pictures"] == ["filters.png", "positions.png"]
    status, _, err = call("inspect", f"--checkpoint={vit}", f"--output={tmp_path / 'b'}", "--only=distance,filters")
    assert status == 2
    assert err.endswith("--only=distance,filters: the file names no data set; give --images or --split\n")


@pytest.mark.parametrize("flag", ["--split=test", "--config.data.name=digits"])
def test_a_data_set_can_be_named_for_a_published_file(flag, call, vit, digits_dir, tmp_path):
    where = [f"--config.data.data_dir={digits_dir}", "--count=4", "--only=rollout"]
    status, _, err = call("inspect", f"--checkpoint={vit}", f"--output={tmp_path}", flag, *where)
    assert status == 0, err
    assert len(numbers(tmp_path)["rollout"]["names"]) == 4


def test_another_image_size_is_inspected(call, vit, tmp_path):
    flags = [f"--output={tmp_path}", "--image_size=8,16", "--only=positions"]
    assert call("inspect", f"--checkpoint={vit}", *flags).status == 0
    assert numbers(tmp_path)["grid"] == [2, 4]


def test_a_resnet_says_what_it_does_not_have(call, resnet, photos, tmp_path):
    status, out, err = call("inspect", f"--checkpoint={resnet}", f"--output={tmp_path}", "--images", *photos)
    assert status == 0
    assert out.splitlines() == [f"{tmp_path}/{name}" for name in ("index.html", "numbers.json", "filters.png")]
    assert err.splitlines()[-4:] == [
        "no positions: R26x1 is a ResNet: it has no position embeddings",
        *(f"no {kind}: R26x1 is a ResNet: it has no attention" for kind in ("distance", "rollout", "heads")),
    ]
    status, _, err = call("inspect", f"--checkpoint={resnet}", f"--output={tmp_path}", "--only=rollout")
    assert status == 2
    assert err.endswith("vit_jax inspect: --only = 'rollout': R26x1 is a ResNet: it has no attention\n")


def test_the_page_about_it_names_every_kind_and_only_flags_that_exist(call, capsys):
    text = DOCS.read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == KINDS
    with pytest.raises(SystemExit):
        call("inspect", "--help")
    known = set(re.findall(r"--\w+", capsys.readouterr().out))
    used = set(re.findall(r"--\w+", text)) - {"--config"}
    assert used <= known
    assert len(used) > 6
