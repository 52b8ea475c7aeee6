"""Where records come from: TFDS splits against `tfds.load`."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data import DataSettings, open_dataset, sources
from vit_jax.data.digits import Digits
from vit_jax.data.sources import TfdsSource, split_slices
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf


def contents(source):
    """[(decoded image, label)] of a whole source."""
    found = []
    for record, label in zip(*source.fetch(np.arange(len(source))), strict=True):
        features = source.parse(tf.constant(record), tf.constant(label))
        image, label = features["image"], features["label"]
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
        ("zzzzqqqq", "give a TFDS name, `folder` or `manifest` with data_dir, or `synthetic`"),
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


class Things(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set whose features have other names than usual, and lists of labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        classes = tfds.features.ClassLabel(names=["red", "green", "blue"])
        features = {
            "picture": tfds.features.Image(shape=(2, 2, 3)),
            "depth": tfds.features.Image(shape=(2, 2, 1)),
            "main": classes,
            "labels": tfds.features.Sequence(classes),
            "distance": np.float32,
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, labels in enumerate([[0], [2, 1], [], [1, 1]]):
            yield (
                i,
                {
                    "picture": np.full((2, 2, 3), i, np.uint8),
                    "depth": np.full((2, 2, 1), 100 + i, np.uint8),
                    "main": i % 3,
                    "labels": labels,
                    "distance": i / 2,
                },
            )


@pytest.fixture(scope="module")
def things_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("things")
    Things(data_dir=str(folder), file_format="tfrecord").download_and_prepare()
    return str(folder)


def parsed(source):
    records, labels = source.fetch(np.arange(len(source)))
    return [source.parse(tf.constant(r), tf.constant(label)) for r, label in zip(records, labels, strict=True)]


def test_features_may_have_any_name_and_all_of_them_are_parsed(things_dir):
    source = TfdsSource("things", things_dir, "train", image_key="picture", label_key="main")
    assert source.label_names == ("red", "green", "blue")
    assert not source.multi_label
    examples = parsed(source)
    assert [int(e["label"]) for e in examples] == [0, 1, 2, 0]
    assert [tf.io.decode_png(e["image"]).numpy().max() for e in examples] == [0, 1, 2, 3]
    assert [tf.io.decode_png(e["depth"]).numpy().max() for e in examples] == [100, 101, 102, 103]
    assert [float(e["distance"]) for e in examples] == [0, 0.5, 1, 1.5]
    assert examples[1]["labels"].numpy().tolist() == [2, 1]


def test_lists_of_labels_become_vectors(things_dir):
    source = TfdsSource("things", things_dir, "train", image_key="picture", label_key="labels")
    expected = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]]
    assert source.multi_label
    labels = source.fetch(np.arange(4))[1]
    assert (labels.dtype, labels.shape) == (np.float32, (4, 3))
    found = [e["label"] for e in parsed(source)]
    assert all(label.dtype == tf.float32 for label in found)
    assert np.array_equal(found, expected)
    assert np.array_equal(source.labels(np.array([3, 0])), [expected[3], expected[0]])


def test_lists_of_any_length_reach_the_batches_unpadded(things_dir):
    keys = {"image_key": "picture", "label_key": "labels", "train_split": "train"}
    settings = DataSettings(
        name="things", data_dir=things_dir, image_size=(2, 2), eval_preprocess="decode|resize", **keys
    )
    (batch,) = open_dataset(settings, "train").eval_batches(4, np.arange(4))
    assert batch["image"].max(axis=(1, 2, 3)).tolist() == [0, 1, 2, 3]
    assert batch["label"].tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]]


def test_without_a_label_key_the_label_is_left_to_operations(things_dir):
    source = TfdsSource("things", things_dir, "train", image_key="picture", label_key=None)
    assert source.label_names == ()
    assert [int(e["label"]) for e in parsed(source)] == [-1] * 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ("image", "main"),
            "config.data.image_key = 'image': things has no feature of that name that is Image; it has",
        ),
        (("main", "main"), "config.data.image_key = 'main': things has no feature of that name that is Image; it has"),
        (
            ("picture", "label"),
            "config.data.label_key = 'label': things has no feature of that name that is ClassLabel",
        ),
        (("picture", "distance"), "config.data.label_key = 'distance': things has no feature of that name"),
    ],
)
def test_a_feature_that_is_not_there_or_of_another_kind_is_refused(things_dir, keys, message):
    with pytest.raises(BadSetting) as error:
        TfdsSource("things", things_dir, "train", *keys)
    assert str(error.value).startswith(message)
    assert "picture (Image)" in str(error.value)
    assert "main (ClassLabel)" in str(error.value)


def test_labels_are_read_without_the_images(digits_dir):
    source = TfdsSource("digits", str(digits_dir), "test")
    expected = [e["label"] for e in tfds.as_numpy(tfds.load("digits", split="test", data_dir=str(digits_dir)))]
    order = np.random.default_rng(0).permutation(360)
    found = source.labels(order)
    assert found.dtype == np.int32
    assert np.array_equal(found, np.array(expected)[order])


@pytest.fixture(scope="module")
def array_record_dir(tmp_path_factory):
    pytest.importorskip("array_record")
    folder = tmp_path_factory.mktemp("array_record")
    Digits(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return str(folder)


@pytest.mark.parametrize("split", ["train[:10%]", "test[5:7]+train[-3:]"])
def test_array_records_hold_what_tf_records_hold(digits_dir, array_record_dir, split):
    here, there = (TfdsSource("digits", str(d), split) for d in (array_record_dir, digits_dir))
    assert here.label_names == there.label_names
    found, expected = contents(here), contents(there)
    assert [label for _, label in found] == [label for _, label in expected]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(found, expected, strict=True))


def test_another_file_format_is_refused(things_dir, monkeypatch):
    find = sources.find_builder

    def riegeli(name, data_dir):
        builder = find(name, data_dir)
        monkeypatch.setattr(type(builder.info), "file_format", tfds.core.FileFormat.RIEGELI)
        return builder

    monkeypatch.setattr(sources, "find_builder", riegeli)
    with pytest.raises(BadSetting, match="is stored as riegeli; prepare it as tfrecord or array_record in another"):
        TfdsSource("things", things_dir, "train", "picture", "main")


def test_the_name_of_a_source_tells_its_examples(digits_dir, tmp_path):
    def name(split, folder=digits_dir):
        return TfdsSource("digits", str(folder), split).name

    Digits(data_dir=str(tmp_path), file_format="tfrecord").download_and_prepare()
    assert name("train") == name("train[:100%]")
    assert len({name("train"), name("test"), name("train[:5]"), name("train", tmp_path)}) == 4


# split expressions


def test_only_the_splits_of_an_expression_are_counted():
    asked = []

    def count(name):
        asked.append(name)
        return {"a": 10, "b": 20}[name]

    assert split_slices("b[:25%]+a[7:]", ["a", "b", "never"], count) == [("b", 0, 5), ("a", 7, 10)]
    assert "never" not in asked
