"""Where records come from: TFDS splits against `tfds.load`, image folders against what was written."""

import os
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data import DataSettings, open_dataset
from vit_jax.data.sources import FolderSource, TfdsSource
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf


def contents(source):
    """[(decoded image, label)] of a whole source."""
    found = []
    for record, label in zip(*source.fetch(np.arange(len(source))), strict=True):
        image, label = source.parse(tf.constant(record), tf.constant(label))
        assert label.dtype == tf.int32
        found.append((tf.io.decode_image(image, expand_animations=False).numpy(), int(label)))
    return found


# TFDS


@pytest.mark.parametrize("split", ["train[:10%]", "train[-25:]", "test[5:7]", "test[:3]+train[100:102]", "test"])
def test_tfds_splits_hold_what_tfds_gives(digits_dir, split):
    found = contents(TfdsSource("digits", str(digits_dir), split))
    reference = list(tfds.as_numpy(tfds.load("digits", split=split, data_dir=str(digits_dir))))
    assert len(found) == len(reference) > 0
    for (image, label), expected in zip(found, reference, strict=True):
        assert np.array_equal(image, expected["image"])
        assert label == expected["label"]


@pytest.mark.parametrize(
    ("split", "size"),
    [("train", 1437), ("train[:90%]", 1293), ("train[90%:]", 144), ("train+test", 1797), ("all", 1797)],
)
def test_tfds_split_expressions_have_the_right_size(digits_dir, split, size):
    assert len(TfdsSource("digits", str(digits_dir), split)) == size


def test_tfds_labels_have_their_names(digits_dir):
    source = TfdsSource("digits", str(digits_dir), "test[:1]")
    assert source.label_names == tuple("0123456789")


@pytest.mark.parametrize("split", ["validation", "train[:150%]", "train[", "train[0:99999]", ""])
def test_an_unknown_tfds_split_says_which_there_are(digits_dir, split):
    with pytest.raises(BadSetting) as error:
        TfdsSource("digits", str(digits_dir), split)
    assert str(error.value) == f"split = {split!r}: digits has train, test and slices of them"


@pytest.mark.parametrize("split", ["train[:0%]", "train[5:2]", "test[360:]"])
def test_an_empty_tfds_split_is_refused(digits_dir, split):
    with pytest.raises(BadSetting, match="holds no examples of digits"):
        TfdsSource("digits", str(digits_dir), split)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_data_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path, name):
    with pytest.raises(BadSetting) as error:
        TfdsSource(name, str(tmp_path), "train")
    message = str(error.value)
    assert message.startswith(f"config.data.name = {name!r}: is not prepared")
    assert message.endswith(f"run: vit_jax prepare {name} --data_dir={tmp_path}")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("cifar_10", 'did you mean "cifar10"?'),
        ("digts", 'did you mean "digits"?'),
        ("foldr", 'did you mean "folder"?'),
        ("zzzzqqqq", "give a TFDS name, `folder` with data_dir, or `synthetic`"),
        ("my data!", "cannot be opened"),
        ("", "cannot be opened"),
    ],
)
def test_an_unknown_name_suggests_another(tmp_path, name, fix):
    with pytest.raises(BadSetting) as error:
        TfdsSource(name, str(tmp_path), "train")
    assert str(error.value).startswith(f"config.data.name = {name!r}: ")
    assert fix in str(error.value)
    assert "\n" not in str(error.value)


def test_a_version_that_is_not_there_is_refused_in_one_line(digits_dir):
    assert len(TfdsSource("digits:1.0.0", str(digits_dir), "test")) == 360
    with pytest.raises(BadSetting, match=r"digits:7\.0\.0.*only: 1\.0\.0") as error:
        TfdsSource("digits:7.0.0", str(digits_dir), "test")
    assert "\n" not in str(error.value)


def test_a_data_set_without_images_is_refused(tmp_path):
    class Numbers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"value": tf.int64, "label": tfds.features.ClassLabel(num_classes=2)})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": iter([(0, {"value": 1, "label": 0})])}

        def _generate_examples(self):
            raise NotImplementedError

    Numbers(data_dir=str(tmp_path), file_format="tfrecord").download_and_prepare()
    with pytest.raises(BadSetting, match=r"needs the feature 'image' \(Image\); it has .*value"):
        TfdsSource("numbers", str(tmp_path), "train")


def test_another_file_format_is_refused(tmp_path):
    pytest.importorskip("array_record")
    from vit_jax.data.digits import Digits

    Digits(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    with pytest.raises(BadSetting, match="is stored as array_record; prepare it as tfrecord"):
        TfdsSource("digits", str(tmp_path), "train")


# folders


FILES = {
    "train/cat/a.png": 10,
    "train/cat/deep/er/b.PNG": 20,
    "train/dog/c.bmp": 30,
    "train/dog/d d.gif": 40,
    "train/a bird/Größe 🐦.png": 50,
    "val/dog/e.png": 60,
}


def levels(source):
    return {(int(image[0, 0, 0]), source.label_names[label]) for image, label in contents(source)}


def test_folders_are_read_at_any_depth_with_any_name(write_images):
    root = write_images(FILES)
    source = FolderSource(str(root), "train")
    assert source.label_names == ("a bird", "cat", "dog")
    assert len(source) == 5
    assert levels(source) == {(10, "cat"), (20, "cat"), (30, "dog"), (40, "dog"), (50, "a bird")}


def test_jpeg_files_are_found_under_both_suffixes_and_other_files_are_left_alone(write_images):
    root = write_images({"train/x/a.jpg": 100, "train/x/b.JPEG": 100})
    for name in ("train/x/notes.txt", "train/x/c.jpg.part", "train/stray.png", "top.png"):
        (root / name).write_bytes(b"no image")
    assert len(FolderSource(str(root), "train")) == 2


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
    assert str(error.value).startswith(f"split = {split!r}: holds no .jpg, .jpeg, .png, .bmp, .gif below {root}/")
