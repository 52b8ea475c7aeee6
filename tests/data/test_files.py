"""Images that are files: folders of classes against what was written, and how much memory their paths take."""

import logging
import os
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vit_jax.data import DataSettings, files, open_dataset
from vit_jax.data.files import FolderSource, Paths
from vit_jax.errors import BadSetting, UserError

pytestmark = pytest.mark.needs_tf


FILES = {
    "train/cat/a.png": 10,
    "train/cat/deep/er/b.PNG": 20,
    "train/dog/c.bmp": 30,
    "train/dog/d d.gif": 40,
    "train/a bird/Größe 🐦.png": 50,
    "val/dog/e.png": 60,
}


def levels(source):
    """{(grey level of the image, name of its class)} of a source, and that there are no two of them."""
    records, labels = source.fetch(np.arange(len(source)))
    assert labels.dtype == np.int32
    images = [tf.io.decode_image(record, expand_animations=False).numpy() for record in records]
    found = {(int(image[0, 0, 0]), source.label_names[label]) for image, label in zip(images, labels, strict=True)}
    assert len(found) == len(source)
    return found


def test_folders_are_read_at_any_depth_with_any_name(write_images):
    root = write_images(FILES)
    source = FolderSource(str(root), "train")
    assert source.label_names == ("a bird", "cat", "dog")
    assert len(source) == 5
    assert levels(source) == {(10, "cat"), (20, "cat"), (30, "dog"), (40, "dog"), (50, "a bird")}


def test_all_kinds_of_images_are_found_and_other_files_are_left_alone(write_images):
    root = write_images({"train/x/a.jpg": 100, "train/x/b.JPEG": 100, "train/x/c.webp": 100})
    for name in ("notes.txt", "c.jpg.part", "../stray.png", "../../top.png", ".hidden.png", "._mac.jpg"):
        (root / "train/x" / name).write_bytes(b"no image")
    (root / "train/x/.thumbnails").mkdir()
    (root / "train/x/.thumbnails/a.png").write_bytes(b"no image")
    (root / "train/x/folder.png").mkdir()
    names = [FolderSource(str(root), "train").describe(i) for i in range(3)]
    assert sorted(names) == [str(root / f"train/x/{name}") for name in ("a.jpg", "b.JPEG", "c.webp")]
    assert len(FolderSource(str(root), "train")) == 3


def test_splits_of_a_folder_share_their_classes(write_images):
    root = write_images({**FILES, "val/newt/f.png": 70})
    train, val = (FolderSource(str(root), split) for split in ("train", "val"))
    assert train.label_names == val.label_names == ("a bird", "cat", "dog", "newt")
    assert levels(val) == {(60, "dog"), (70, "newt")}


def test_symlinked_classes_and_files_are_followed(write_images, tmp_path):
    root = write_images({"train/cat/a.png": 10})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "train/cat/a.png").rename(elsewhere / "a.png")
    os.symlink(elsewhere, root / "train/dog")
    os.symlink(elsewhere / "a.png", root / "train/cat/link.png")
    assert levels(FolderSource(str(root), "train")) == {(10, "cat"), (10, "dog")}


@pytest.fixture
def hundred(write_images):
    return str(write_images({f"train/{i % 4}/{i:03}.png": i for i in range(100)}))


def test_slices_of_a_folder_are_disjoint_complete_and_hold_every_class(hundred):
    parts = [levels(FolderSource(hundred, split)) for split in ("train[:60%]", "train[60%:70]", "train[70:]")]
    assert [len(part) for part in parts] == [60, 10, 30]
    assert set.union(*parts) == levels(FolderSource(hundred, "train"))
    for part in parts:
        assert {name for _, name in part} == {"0", "1", "2", "3"}


def test_the_order_of_a_folder_depends_on_names_alone(hundred, tmp_path):
    moved = tmp_path / "moved"
    os.rename(hundred, moved)
    before = FolderSource(str(moved), "train").fetch(np.arange(100))
    for path in sorted(moved.glob("train/*/*.png"), reverse=True):  # written again, so that the disk lists them anew
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    after = FolderSource(f"{tmp_path}/./moved/", "train").fetch(np.arange(100))
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])
    assert not np.array_equal(before[1], np.sort(before[1]))


def test_sums_of_folder_splits(write_images):
    root = str(write_images(FILES))
    assert len(FolderSource(root, "train+val")) == len(FolderSource(root, "all")) == 6
    assert len(FolderSource(root, "val+train[:2]")) == 3


def test_a_relative_root_and_home_work(write_images, monkeypatch):
    root = write_images(FILES)
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    expected = levels(FolderSource(str(root), "train"))
    assert levels(FolderSource("images", "train")) == expected
    assert levels(FolderSource("~/images", "train")) == expected
    monkeypatch.chdir(root)
    assert levels(FolderSource(".", "train")) == expected


def test_composed_and_decomposed_names_are_different_files(write_images):
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    root = write_images({f"train/x/{name}.png": level for name, level in zip(names, (1, 2), strict=True)})
    if len(os.listdir(root / "train/x")) < 2:
        pytest.skip("this file system takes them for one")
    assert len(FolderSource(str(root), "train")) == 2


def test_a_folder_data_set_needs_a_data_dir():
    with pytest.raises(BadSetting, match=r"config\.data\.data_dir = None: a `folder` data set needs it"):
        open_dataset(DataSettings(name="folder"), "train")


@pytest.mark.parametrize("below", ["nowhere", "a file", "empty"])
def test_a_missing_or_empty_folder_is_named(tmp_path, below):
    (tmp_path / "a file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSetting) as error:
        FolderSource(str(tmp_path / below), "train")
    assert str(error.value).startswith(f"config.data.data_dir = {str(tmp_path / below)!r}: no such folder, or no split")


@pytest.mark.parametrize("split", ["test", "train[:200%]", "train["])
def test_an_unknown_folder_split_says_which_there_are(write_images, split):
    with pytest.raises(BadSetting) as error:
        FolderSource(str(write_images(FILES)), split)
    assert str(error.value) == f"split = {split!r}: there are train, val and slices of them"


@pytest.mark.parametrize("split", ["test", "train[:0%]", "train[3:1]"])
def test_an_empty_folder_split_says_where_it_looked(write_images, split):
    root = write_images(FILES)
    (root / "test" / "cat").mkdir(parents=True)
    with pytest.raises(BadSetting) as error:
        FolderSource(str(root), split)
    assert str(error.value).startswith(
        f"split = {split!r}: holds no .jpg, .jpeg, .png, .webp, .bmp, .gif below {root}/"
    )


def test_links_do_not_loop_nor_lead_out_of_their_class(write_images):
    root = write_images({"train/cat/a.png": 10, "train/cat/deep/b.png": 20, "train/dog/c.png": 30})
    os.symlink(root / "train/cat", root / "train/cat/deep/again")
    os.symlink(root / "train", root / "train/cat/all")
    os.symlink(root, root / "train/dog/everything")
    os.symlink(root / "train/cat/deep", root / "train/cat/twice")
    os.symlink(root / "train/nowhere", root / "train/cat/broken.png")
    assert levels(FolderSource(str(root), "train")) == {(10, "cat"), (20, "cat"), (30, "dog")}


def test_a_class_without_images_in_a_split_is_one_and_in_all_splits_a_warning(write_images, caplog):
    root = write_images({**FILES, "val/newt/f.png": 70})
    (root / "train/owl").mkdir()
    (root / "val/owl/deep").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        source = FolderSource(str(root), "train")
    assert source.label_names == ("a bird", "cat", "dog", "newt", "owl")
    (message,) = caplog.messages
    assert message == f"{root} has classes without any image: owl"


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("STRASSE", "straße"), ("Zoe\u0308", "zo\u00eb")])
def test_classes_that_differ_only_in_spelling_are_refused(write_images, one, other):
    root = write_images({f"train/{one}/a.png": 1, f"val/{other}/b.png": 2})
    with pytest.raises(BadSetting) as error:
        FolderSource(str(root), "train")
    names = sorted((one, other))
    fix = f"the classes {names[0]!r} and {names[1]!r} differ only in spelling: rename one"
    assert str(error.value) == f"config.data.data_dir = {str(root)!r}: {fix}"


def test_only_the_splits_that_are_read_are_listed(write_images, monkeypatch):
    root = write_images(FILES)
    listed, listing = [], files._listing
    monkeypatch.setattr(files, "_listing", lambda split, classes: listed.append(split.name) or listing(split, classes))
    FolderSource(str(root), "val")
    assert listed == ["val"]


def test_a_folder_that_may_not_be_listed_is_named(write_images, monkeypatch):
    root, scan = write_images(FILES), os.scandir

    def refuse(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError) as error:
        FolderSource(str(root), "train")
    assert str(error.value) == f"folder {root}/train/cat/deep cannot be listed (Permission denied)"


def test_a_file_that_vanished_is_empty_and_a_warning(write_images, caplog):
    root = write_images(FILES)
    source = FolderSource(str(root), "train")
    index = next(i for i in range(5) if source.describe(i).endswith("c.bmp"))
    (root / "train/dog/c.bmp").unlink()
    records, labels = source.fetch(np.arange(5))
    assert [i for i, record in enumerate(records) if not record] == [index]
    assert len(labels) == 5
    assert caplog.messages == [f"{root}/train/dog/c.bmp cannot be read (No such file or directory)"]


def test_labels_are_known_without_reading(hundred):
    source = FolderSource(hundred, "train")
    order = np.array([99, 3, 3, 0])
    assert np.array_equal(source.labels(order), source.fetch(order)[1])
    assert [int(Path(source.describe(i)).stem) % 4 for i in order] == source.labels(order).tolist()


# memory


def test_a_hundred_thousand_files_take_less_than_a_hundred_bytes_each(tmp_path, monkeypatch):
    names = [f"n0{i:07}_{i * 7919 % 100_000}.JPEG" for i in range(10_000)]  # as long as those of ImageNet
    for number in range(10):
        (tmp_path / f"train/n0144000{number}").mkdir(parents=True)
    monkeypatch.setattr(files, "_images", lambda folder: iter(names))
    tracemalloc.start()
    try:
        source = FolderSource(str(tmp_path), "train")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(source) == 100_000
    assert source.memory_bytes() < 60 * 100_000
    assert source.memory_bytes() == pytest.approx(held, rel=0.1)
    some = np.random.default_rng(0).integers(0, 100_000, 20)
    assert all(source.describe(i).split("/")[-2] == source.label_names[source.labels(i)] for i in some)


def test_paths_are_kept_as_the_file_system_spells_them(tmp_path):
    names = [b"plain", "ünïcode 🐦".encode(), b"not utf-8 \xff", b"", b"x" * 5000]
    paths = Paths(str(tmp_path), names)
    assert [paths.relative(i) for i in range(5)] == names
    assert [os.fsencode(paths[i]) for i in range(3)] == [os.fsencode(tmp_path) + b"/" + name for name in names[:3]]
    assert [paths.take([4, 0]).relative(i) for i in range(2)] == [names[4], names[0]]
    assert Paths("/base", [b"gs://bucket/a", b"/root/b"])[0] == "gs://bucket/a"
    assert Paths("/base", [b"gs://bucket/a", b"/root/b"])[1] == "/root/b"
