"""`vit_jax data`: what it says is what the data set holds."""

import json

import numpy as np
import pytest
from matplotlib import image as pictures

from vit_jax.data import train_indices

DIGITS = "--config=configs/digits.py"


@pytest.fixture
def look(call, tmp_path):
    """Runs the verb with --json, and gives what it printed."""

    def run(*argv):
        status, out, err = call("data", *argv, f"--output={tmp_path / 'sheets'}", "--json")
        assert status == 0, err
        return json.loads(out)

    return run


@pytest.mark.needs_tf
def test_digits_are_shown_as_they_are(look, digits_dir):
    from vit_jax.data import embedded_split

    found = look(DIGITS, f"--config.data.data_dir={digits_dir}", "--examples=640", "--images=20")
    assert {k: (v["split"], v["examples"], v["classes"]) for k, v in found["splits"].items()} == {
        "train": ("train", 1437, 10),
        "eval": ("test", 360, 10),
    }
    assert "random_affine" in found["splits"]["train"]["preprocess"]
    assert found["batch"] == {
        "image": {"dtype": "uint8", "shape": [128, 8, 8, 3]},
        "label": {"dtype": "int32", "shape": [128]},
    }
    _, labels = embedded_split("train")
    index = np.concatenate([train_indices(0, step, 128, np.arange(128), 1437)[0] for step in range(5, 10)])
    shares = np.bincount(labels[index]) / 640
    assert found["labels"] == {str(k): pytest.approx(shares[k], abs=1e-6) for k in range(10)}
    assert list(found["labels"].values()) == sorted(found["labels"].values(), reverse=True)
    assert found["speed"]["images"] == 640
    assert found["speed"]["per_second"] > 0
    memory = found["memory"]
    assert memory["total_bytes"] == sum(memory["plan_bytes"].values()) > 2 * 128 * (8 * 8 * 3 + 4) * 8
    assert 0 < memory["process_before_bytes"] <= memory["process_peak_bytes"]
    assert found["skipped"] == {"train": 0, "eval": 0}


@pytest.mark.needs_tf
def test_a_folder_of_images_is_shown_with_its_names(call, tmp_path):
    root = tmp_path / "images"
    levels = {"train/a bird/1.png": 40, "train/Größe/2.png": 90, "test/a bird/3.png": 140, "test/Größe/4.png": 190}
    for name, level in levels.items():
        (root / name).parent.mkdir(parents=True)
        pictures.imsave(root / name, np.full((6, 6, 3), level, np.uint8))
    argv = ["--config.data.image_size=(16,)", "--config.train.batch_size=8", "--examples=8", "--images=8"]
    sheets = tmp_path / "sheets"
    status, out, _ = call("data", f"--config=configs/folder.py:{root}", *argv, f"--output={sheets}")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "train    folder [train], 2 images, 2 classes"
    assert lines[2] == "eval     folder [test], 2 images, 2 classes"
    assert "batch    image uint8 (8, 16, 16, 3), label int32 (8,)" in lines
    assert "classes  Größe 50.0%, a bird 50.0%" in lines
    assert f"written  {sheets}/train_images.png, {sheets}/eval_images.png" in lines
    for name, present, absent in (("train", (40, 90), (140, 190)), ("eval", (140, 190), (40, 90))):
        sheet = pictures.imread(sheets / f"{name}_images.png")[..., :3] * 255
        count = [np.count_nonzero((np.abs(sheet - level) < 4).all(axis=-1)) for level in present + absent]
        assert min(count[:2]) > 5000
        assert max(count[2:]) < 500


@pytest.fixture
def many(tmp_path):
    """400 pictures of one class to train on and 2 to evaluate, one of each kind unreadable."""
    pictures.imsave(tmp_path / "good.png", np.full((6, 6, 3), 90, np.uint8))
    good = (tmp_path / "good.png").read_bytes()
    for split, number in (("train", 400), ("test", 2)):
        folder = tmp_path / "images" / split / "only"
        folder.mkdir(parents=True)
        for i in range(number):
            (folder / f"{i}.png").write_bytes(good if i else b"no picture")
    return tmp_path / "images"


@pytest.mark.needs_tf
def test_pictures_that_cannot_be_read_are_counted(many, look):
    argv = ["--config.data.image_size=(16,)", "--config.train.batch_size=40", "--examples=400", "--images=8"]
    found = look(f"--config=configs/folder.py:{many}", *argv)
    assert found["skipped"]["train"] >= 1
    assert found["skipped"]["eval"] == 1


def test_hosts_share_the_batch_and_the_memory(look):
    config = [DIGITS, "--config.data.name=synthetic", "--examples=64", "--images=3"]
    one, four = look(*config), look(*config, "--hosts=4")
    assert one["batch"]["image"]["shape"][0] == 4 * four["batch"]["image"]["shape"][0] == 128
    assert one["memory"]["total_bytes"] == 4 * four["memory"]["total_bytes"]


def test_a_config_without_evaluation_has_one_sheet(look):
    found = look(DIGITS, "--config.data.name=synthetic", "--config.evaluate.split=", "--examples=8", "--images=3")
    assert list(found["splits"]) == ["train"]
    assert [path.rpartition("/")[2] for path in found["written"]] == ["train_images.png"]


def test_the_catalog_is_listed(call):
    status, out, _ = call("data", "--catalog")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 30
    assert "cifar10 CIFAR-10 10 classes vit_jax prepare cifar10" in [" ".join(line.split()) for line in lines]


def test_a_task_of_the_catalog_is_shown_as_lines_of_a_config(call):
    from ml_collections import ConfigDict

    from vit_jax.settings import build
    from vit_jax.train import RunSettings

    status, out, _ = call("data", "--catalog=vtab/clevr_count", "--stage=dev", "--crops=bit")
    assert status == 0
    config = ConfigDict({"data": {}, "evaluate": {}})
    exec(out, {"config": config})
    built = build(RunSettings, config)
    assert built.data.name == "clevr:3.*.*"
    assert built.data.label_key is None
    assert built.data.train_split == "train[:800]"
    assert built.evaluate.split == "train[63000:63200]"
    assert built.data.train_preprocess == "clevr_count|decode|resize|flip"
    assert "vit_jax prepare clevr" in out


def test_a_task_is_shown_as_json(call):
    status, out, _ = call("data", "--catalog=imagenet2012_real", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["metric"] == "any_of"
    assert found["prepare"] == "vit_jax prepare imagenet2012_real --manual_dir=DIR"
    assert found["config"]["data"]["label_key"] == "real_label"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "give --config or --catalog; see vit_jax data --help"),
        ([DIGITS, "--examples=0"], "--examples=0: must be at least 1"),
        ([DIGITS, "--hosts=3"], "--hosts = 3: must divide config.train.batch_size = 128"),
        ([DIGITS, "--config.data.name=diggits"], 'did you mean "digits"?'),
        ([DIGITS, "--config.data.train_preprocess=decode|resise"], 'did you mean "resize"?'),
        (
            ["--catalog=vtab/clever_count"],
            "task = 'vtab/clever_count': not in the catalog; did you mean \"vtab/clevr_count\"?",
        ),
        (["--catalog=cifar10", "--stage=test"], "stage = 'test': must be dev or final"),
    ],
)
def test_bad_input_is_named(argv, expected, call, tmp_path, digits_dir):
    where = [f"--config.data.data_dir={digits_dir}"] if DIGITS in argv else []
    status, out, err = call("data", *argv, *where, f"--output={tmp_path / 'sheets'}")
    assert status == 2
    assert not out
    assert err.startswith("vit_jax data: ")
    assert expected in err.splitlines()[-1]
    assert not (tmp_path / "sheets").exists()
