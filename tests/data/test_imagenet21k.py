"""ImageNet-21k from tars made here, and ObjectNet from a release made here; read back like any other data set."""

import io
import json
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from vit_jax.data.objectnet import shared_folders
from vit_jax.data.preparation import prepare
from vit_jax.data.sources import TfdsSource
from vit_jax.errors import UserError

pytestmark = pytest.mark.needs_tf


@pytest.fixture
def write_tar(tmp_path):
    """Writes {name: bytes} as one tar below the manual folder, and gives that folder."""

    def make(name, files):
        path = tmp_path / "manual" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for member, data in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return tmp_path / "manual"

    return make


@pytest.fixture
def jpeg(encode):
    return lambda level: encode(np.full((24, 32, 3), level, np.uint8), "JPEG")


def contents(source):
    """{picture's first level: class name}."""
    found = {}
    for record in source.fetch(np.arange(len(source)))[0]:
        features = source.parse(tf.constant(record), tf.constant(-1))
        level = int(tf.io.decode_image(features["image"]).numpy()[0, 0, 0])
        found[level] = source.label_names[int(features["label"])]
    return found


def test_every_picture_of_every_tar_is_there_and_unchanged(write_tar, jpeg, tmp_path):
    pictures = {level: jpeg(level) for level in (10, 60, 110, 160)}
    write_tar("n02/n00000002.tar", {"n00000002_1.JPEG": pictures[10], "n00000002_7.JPEG": pictures[60]})
    folder = write_tar("n00000001.tar", {"n00000001_1.JPEG": pictures[110], "sub/n00000001_2.JPEG": pictures[160]})
    assert prepare("imagenet21k", str(tmp_path / "tfds"), str(folder)) == {"train": 4}
    source = TfdsSource("imagenet21k", str(tmp_path / "tfds"), "train")
    assert source.label_names == ("n00000001", "n00000002")
    assert contents(source) == {10: "n00000002", 60: "n00000002", 110: "n00000001", 160: "n00000001"}
    stored = {source.parse(tf.constant(r), tf.constant(-1))["image"].numpy() for r in source.fetch(np.arange(4))[0]}
    assert stored == set(pictures.values())
    assert not list((tmp_path / "tfds").rglob("left_out.txt"))
    assert len(TfdsSource("imagenet21k", str(tmp_path / "tfds"), "train[1:]")) == 3


def test_pictures_that_cannot_be_decoded_are_left_out_and_named(write_tar, jpeg, encode, tmp_path):
    good = jpeg(200)
    png = encode(np.full((4, 4, 3), 30, np.uint8), "PNG")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    half = encode(noise, "JPEG")
    files = {"a.JPEG": good, "b.JPEG": half[: len(half) // 2], "c.JPEG": b"", "d.JPEG": b"<html>", "e.JPEG": png}
    folder = write_tar("n00000001.tar", files)
    assert prepare("imagenet21k", str(tmp_path / "tfds"), str(folder)) == {"train": 2}
    (names,) = (tmp_path / "tfds").rglob("left_out.txt")
    assert names.read_text().split() == ["n00000001/b.JPEG", "n00000001/c.JPEG", "n00000001/d.JPEG"]
    assert set(contents(TfdsSource("imagenet21k", str(tmp_path / "tfds"), "train"))) == {200, 30}


def test_a_class_file_gives_the_order_of_the_classes(write_tar, jpeg, tmp_path):
    write_tar("n00000001.tar", {"a.JPEG": jpeg(0)})
    folder = write_tar("n00000002.tar", {"a.JPEG": jpeg(100)})
    (folder / "imagenet21k_wordnet_ids.txt").write_text("n00000003\nn00000002\nn00000001\n")
    prepare("imagenet21k", str(tmp_path / "tfds"), str(folder))
    source = TfdsSource("imagenet21k", str(tmp_path / "tfds"), "train")
    assert source.label_names == ("n00000003", "n00000002", "n00000001")
    assert contents(source) == {0: "n00000001", 100: "n00000002"}


@pytest.mark.parametrize(
    ("tars", "classes", "expected"),
    [
        ([], None, "holds no synset archives"),
        (["other.tar"], None, "holds no synset archives"),
        (["a/n00000001.tar", "b/n00000001.tar"], None, "holds n00000001.tar more than once"),
        (["n00000001.tar"], "n00000002", "lacks n00000001, which has a tar"),
        (["n00000001.tar"], "n00000001 n00000001", "names a synset twice"),
    ],
)
def test_a_folder_without_the_archives_is_refused(tars, classes, expected, write_tar, jpeg, tmp_path):
    for name in tars:
        write_tar(name, {"a.JPEG": jpeg(0)})
    (tmp_path / "manual").mkdir(exist_ok=True)
    if classes:
        (tmp_path / "manual" / "imagenet21k_wordnet_ids.txt").write_text(classes)
    with pytest.raises(UserError, match=expected):
        prepare("imagenet21k", str(tmp_path / "tfds"), str(tmp_path / "manual"))


def test_a_truncated_archive_is_named(write_tar, jpeg, tmp_path):
    folder = write_tar("n00000001.tar", {"a.JPEG": jpeg(0) + bytes(5000)})
    path = folder / "n00000001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"n00000001\.tar cannot be read to its end"):
        prepare("imagenet21k", str(tmp_path / "tfds"), str(folder))


@pytest.mark.parametrize("name", ["imagenet21k", "objectnet"])
def test_sets_made_from_files_ask_for_them(name, tmp_path):
    with pytest.raises(UserError, match="pass --manual_dir"):
        prepare(name, str(tmp_path))


# ObjectNet


@pytest.fixture
def release(tmp_path, encode):
    """A release with three folders, two of which ILSVRC knows; lines of the label file are not in synset order."""
    root = tmp_path / "objectnet-1.0"
    (root / "mappings").mkdir(parents=True)
    lines = ["desk lamp", "table lamp", "broom"]
    tables = {
        "folder_to_objectnet_label.json": {"lamp": "Lamp", "broom": "Broom", "spoon": "Spoon (odd)"},
        "objectnet_to_imagenet_1k.json": {"Lamp": "table lamp; desk lamp", "Broom": "broom"},
        "pytorch_to_imagenet_2012_id.json": {"462": 2, "526": 0, "846": 1},
    }
    for name, table in tables.items():
        (root / "mappings" / name).write_text(json.dumps(table))
    (root / "mappings" / "imagenet_to_label_2012_v2").write_text("\n".join(lines) + "\n")
    for folder, level in (("lamp", 40), ("broom", 90), ("spoon", 140)):
        (root / "images" / folder).mkdir(parents=True)
        image = np.full((12, 16, 3), level, np.uint8)
        image[[0, 1, -1, -2]] = image[:, [0, 1, -1, -2]] = (255, 0, 0)
        (root / "images" / folder / "0a1.png").write_bytes(encode(image, "PNG"))
    return root


def test_the_mappings_of_a_release_are_joined(release):
    assert shared_folders(release / "mappings") == {"lamp": [526, 846], "broom": [462]}


def test_objectnet_holds_the_shared_classes_without_their_border(release, tmp_path):
    (release / "images" / "broom" / "bad.png").write_bytes(b"no picture")
    assert prepare("objectnet", str(tmp_path / "tfds"), str(release)) == {"test": 2}
    assert next((tmp_path / "tfds").rglob("left_out.txt")).read_text() == "broom/bad.png\n"
    import tensorflow_datasets as tfds

    found = {}
    for example in tfds.as_numpy(tfds.load("objectnet", split="test", data_dir=str(tmp_path / "tfds"))):
        assert example["image"].shape == (8, 12, 3)
        assert len(np.unique(example["image"])) == 1
        found[int(example["image"][0, 0, 0])] = list(example["labels"])
    assert found == {40: [526, 846], 90: [462]}


@pytest.mark.parametrize("name", ["imagenet_to_label_2012_v2", "folder_to_objectnet_label.json"])
def test_a_release_without_a_mapping_is_refused(name, release, tmp_path):
    (release / "mappings" / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        prepare("objectnet", str(tmp_path / "tfds"), str(release))


def test_mappings_that_do_not_fit_are_refused(release, tmp_path):
    (release / "mappings" / "objectnet_to_imagenet_1k.json").write_text('{"Lamp": "lava lamp"}')
    with pytest.raises(UserError, match=r"does not fit together.*lava lamp"):
        prepare("objectnet", str(tmp_path / "tfds"), str(release))
