"""Label operations on tiny data sets with the very features of the real ones, against the published definitions.

The data sets are written with the `FeaturesDict` of TFDS's own builders, stored as TFRecord and read back.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data import DataSettings, labels, open_dataset
from vit_jax.data.ops import Context
from vit_jax.data.preprocess import parse
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf

FIELD = "config.data.eval_preprocess"
GRAY = np.full((8, 10, 3), 100, np.uint8)
CONTEXT = Context((8, 8), 3, tf.zeros((2,), tf.int32))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Writes examples as the TFDS data set `name`, with the features of its real builder; gives the data_dir."""
    folder = str(tmp_path_factory.mktemp("tfds"))

    def make(name, examples, split="train"):
        real = tfds.builder(name, data_dir=folder, try_gcs=False)

        class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = real.version
            BUILDER_CONFIGS = [real.builder_config] if real.builder_config else []

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=real.info.features, disable_shuffling=True)

            def _split_generators(self, dl_manager):
                return {split: enumerate(examples)}

            def _generate_examples(self):
                raise NotImplementedError

        Tiny.name = real.name
        Tiny(data_dir=folder, file_format="tfrecord").download_and_prepare()
        return folder

    return make


def run(features, text):
    """One record through the label operations of a string, traced as in the pipeline."""

    @tf.autograph.experimental.do_not_convert
    def steps(record):
        for function, arguments in parse(text, FIELD):
            record = function(record, CONTEXT, **arguments)
        return record

    record = {k: v if isinstance(v, tf.Tensor) else tf.constant(v) for k, v in features.items()}
    return next(iter(tf.data.Dataset.from_tensors(record).map(steps)))


def evaluated(settings, split):
    """The labels of a split through the whole pipeline, and the data set."""
    dataset = open_dataset(settings, split)
    batches = list(dataset.eval_batches(4, np.arange(4)))
    mask = np.concatenate([b["mask"] for b in batches])
    return np.concatenate([b["label"] for b in batches])[mask], dataset


def settings(name, data_dir, text, **more):
    text = f"{text}|decode|resize" if text else "decode|resize"
    steps = {"train_preprocess": text, "eval_preprocess": text}
    return DataSettings(name=name, data_dir=data_dir, image_size=(8,), **steps, **more)


# CLEVR


def scene(depths):
    return {
        "image": GRAY,
        "file_name": "a.png",
        "question_answer": [],
        "objects": [
            {
                "color": 1,
                "material": 0,
                "shape": 2,
                "size": 1,
                "rotation": 0.5,
                "3d_coords": [0.0, 1.0, 2.0],
                "pixel_coords": [3.0, 4.0, depth],
            }
            for depth in depths
        ],
    }


DEPTHS = [
    [9.2, 12.0, 14.0],
    [7.9, 11.0, 8.3, 10.0],
    [8.0] * 5,
    [8.001, 8.5, 9.0, 10.0, 11.0, 12.0],
    [8.5] * 7,
    [9.5] * 8,
    [10.0] * 9,
    [10.5] * 10,
]


@pytest.fixture(scope="module")
def clevr(store):
    return store("clevr:3.1.0", [scene(depths) for depths in DEPTHS])


def test_clevr_counts_objects_from_three(clevr):
    found, dataset = evaluated(settings("clevr:3.*.*", clevr, "clevr_count", label_key=None), "train")
    assert found.dtype == np.int32
    assert found.tolist() == [len(depths) - 3 for depths in DEPTHS]
    assert dataset.label_names == tuple(f"{n} objects" for n in (3, 4, 5, 6, 7, 8, 9, 10))


def test_clevr_distance_is_the_interval_of_the_nearest_object(clevr):
    found, dataset = evaluated(settings("clevr:3.*.*", clevr, "clevr_distance", label_key=None), "train")
    edges = np.array([0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0])
    nearest = [np.float32(min(depths)) for depths in DEPTHS]
    assert found.tolist() == [int(np.max(np.where(edges - d < 0))) for d in nearest] == [3, 0, 0, 1, 1, 3, 4, 5]
    assert len(dataset.label_names) == 6


@pytest.mark.parametrize(("text", "depths"), [("clevr_count", [9.0, 9.0]), ("clevr_distance", [])])
def test_a_scene_that_fits_no_class_is_an_error_of_its_record(text, depths):
    objects = {"size": np.ones(len(depths), np.int64), "pixel_coords": np.array(depths).repeat(3).reshape(-1, 3)}
    record = {"objects": {k: tf.constant(v, tf.float32) for k, v in objects.items()}}
    function, _ = parse(text, FIELD)[0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="no class has this label"):
        function(record, CONTEXT)


# KITTI


def street(things):
    return {
        "image": GRAY,
        "image/file_name": "000001.png",
        "objects": [
            {
                "type": kind,
                "truncated": 0.0,
                "occluded": 0,
                "alpha": 0.0,
                "bbox": tfds.features.BBox(0.1, 0.1, 0.5, 0.5),
                "dimensions": [1.0, 1.0, 1.0],
                "location": [0.0, 1.0, depth],
                "rotation_y": 0.0,
            }
            for kind, depth in things
        ],
    }


STREETS = {
    "car": ([("Car", 7.9), ("Car", 30.0)], 0),
    "edge": ([("Van", 8.0)], 0),
    "van": ([("Van", 8.1), ("Pedestrian", 2.0)], 1),
    "second edge": ([("Truck", 20.0)], 1),
    "truck": ([("Misc", 1.0), ("Truck", 20.1)], 2),
    "far": ([("Car", 150.0)], 2),
    "no vehicle": ([("Pedestrian", 3.0), ("Cyclist", 4.0), ("Tram", 5.0)], 3),
    "nothing": ([], 3),
    "behind": ([("Car", -1.0)], 0),
}


def test_kitti_distance_is_the_interval_of_the_nearest_vehicle(store):
    data_dir = store("kitti:3.1.0", [street(things) for things, _ in STREETS.values()])
    found, dataset = evaluated(settings("kitti:3.1.0", data_dir, "kitti_distance", label_key=None), "train")
    assert found.tolist() == [label for _, label in STREETS.values()]
    assert dataset.label_names[3] == "no vehicle"


# dSprites, smallNORB


def sprite(number):
    values = {f"value_{k}": 0.5 for k in ("shape", "scale", "orientation", "x_position", "y_position")}
    image = np.zeros((64, 64, 1), np.uint8)
    image[:, : number + 1] = 1
    classes = {"label_shape": 0, "label_scale": 0, "label_orientation": number, "label_y_position": 0}
    return {"image": image, **values, **classes, "label_x_position": number % 32}


@pytest.fixture(scope="module")
def dsprites(store):
    return store("dsprites:2.0.0", [sprite(number) for number in range(40)])


@pytest.mark.parametrize(("key", "of"), [("label_x_position", 32), ("label_orientation", 40)])
def test_dsprites_classes_are_grouped_by_floor_division(key, of, dsprites):
    text = f"regroup(16, of={of})"
    found, dataset = evaluated(settings("dsprites:2.*.*", dsprites, text, label_key=key), "train")
    original = np.arange(40) % of
    assert found.tolist() == np.floor_divide(original.astype(np.float32), of / 16).astype(int).tolist()
    assert set(found) == set(range(16))
    assert len(dataset.label_names) == 16


def test_dsprites_pictures_are_stretched_to_white_and_three_channels(dsprites):
    text = "stretch(255)|regroup(16, of=40)"
    dataset = open_dataset(settings("dsprites:2.*.*", dsprites, text, label_key="label_orientation"), "train[39:]")
    (batch,) = dataset.eval_batches(1, np.arange(1))
    assert batch["image"].shape == (1, 8, 8, 3)
    white = 255 * 40 / 64  # of the columns
    assert np.allclose(batch["image"].mean(), white, atol=2)
    assert batch["image"].max() == 255


def test_stretch_keeps_the_encoded_picture_lossless():
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    found = run({"image": tf.io.encode_png(levels)}, "stretch(30)")["image"]
    assert np.array_equal(tf.io.decode_png(found).numpy(), np.minimum(levels.astype(int) * 30, 255))


NORB = [
    {
        "image": np.full((96, 96, 1), 50, np.uint8),
        "image2": np.full((96, 96, 1), 90, np.uint8),
        "label_category": 1,
        "instance": 0,
        "label_lighting": 0,
        "label_azimuth": 3 * i + 2,
        "label_elevation": i,
    }
    for i in (0, 5)
]


@pytest.fixture(scope="module")
def norb(store):
    return store("smallnorb:2.0.0", NORB)


@pytest.mark.parametrize(("key", "classes"), [("label_azimuth", 18), ("label_elevation", 9)])
def test_smallnorb_labels_are_features_of_the_record(key, classes, norb):
    found, dataset = evaluated(settings("smallnorb:2.*.*", norb, "", label_key=key), "train")
    assert found.tolist() == [example[key] for example in NORB]
    assert len(dataset.label_names) == classes


# many labels


def test_imagenet_real_labels_become_vectors_and_none_become_zeros(store):
    many = [[3, 7, 999], [], [0]]
    examples = [{"image": GRAY, "original_label": 1, "real_label": found, "file_name": "a"} for found in many]
    data_dir = store("imagenet2012_real:1.0.0", examples, "validation")
    chosen = settings("imagenet2012_real:1.*.*", data_dir, "", label_key="real_label")
    found, dataset = evaluated(chosen, "validation")
    assert found.shape == (3, 1000)
    assert found.dtype == np.float32
    assert [np.flatnonzero(row).tolist() for row in found] == many
    assert found.max() == 1
    assert len(dataset.label_names) == 1000


@pytest.mark.parametrize("found", [[2, 0], [], [1, 1, 1]])
def test_multihot_marks_the_classes_of_a_feature(found):
    record = run({"tags": np.array(found, np.int64), "label": -1}, "multihot(3, 'tags')")
    assert record["label"].dtype == tf.float32
    assert record["label"].numpy().tolist() == [float(i in found) for i in range(3)]


def test_multihot_names_the_features_there_are():
    with pytest.raises(ValueError, match="no feature 'labels'; they have label"):
        run({"label": 0}, "multihot(3)")


# vectors, numbers, names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("onehot(4)", [0, 0, 1, 0]),
        ("onehot(4, on=0.9, off=0.2)", [0.2, 0.2, 0.9, 0.2]),
        ("onehot(4)|smooth(0.1)", [0.025, 0.025, 0.925, 0.025]),
        ("onehot(4)|smooth", [0.025, 0.025, 0.925, 0.025]),
        ("onehot(4)|smooth(0.0)", [0, 0, 1, 0]),
        ("regroup(2, of=4)|onehot(2)", [0, 1]),
        ("lookup({0: 1, 1: 0, 2: 1, 3: 0})|onehot(2)", [0, 1]),
    ],
)
def test_vectors_follow_their_formulas(text, expected):
    found = run({"label": 2}, text)["label"]
    assert found.dtype == tf.float32
    assert np.allclose(found, expected, atol=1e-7)


def test_smoothing_keeps_the_sum_of_one():
    assert float(tf.reduce_sum(run({"label": 3}, "onehot(7)|smooth(0.3)")["label"])) == pytest.approx(1)


@pytest.mark.parametrize("text", ["onehot(3)|onehot(3)", "onehot(3)|regroup(1, of=3)", "onehot(3)|lookup({0: 0})"])
def test_operations_on_numbers_refuse_vectors(text):
    with pytest.raises(ValueError, match="needs class numbers"):
        run({"label": 0}, text)


def test_smoothing_refuses_numbers():
    with pytest.raises(ValueError, match=r"put onehot\(classes\) before it"):
        run({"label": 0}, "smooth(0.1)")


@pytest.mark.parametrize(
    "text", ["onehot(3)", "regroup(1, of=3)", "lookup({0: 0, 1: 0, 2: 0})", "lookup({0: 0, 4: 0})"]
)
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_without_a_class_is_an_error_of_its_record(text, label):
    with pytest.raises(tf.errors.InvalidArgumentError, match="no class has this label"):
        run({"label": label}, text)


@pytest.mark.parametrize(("old", "new"), [(0, 2), (1, 0), (2, 2), (3, 1)])
def test_lookup_renumbers(old, new):
    assert int(run({"label": old}, "lookup({0: 2, 1: 0, 2: 2, 3: 1})")["label"]) == new


def test_a_lookup_file_names_the_new_classes(tmp_path):
    path = tmp_path / "coarse classes.json"
    path.write_text(json.dumps(["vehicle", "animal", "Größe", "animal"]))
    found = [int(run({"label": i}, f"lookup_file({str(path)!r})")["label"]) for i in range(4)]
    names = named(f"lookup_file({str(path)!r})", ("car", "cat", "size", "dog"))
    assert names == ("Größe", "animal", "vehicle")
    assert [names[i] for i in found] == ["vehicle", "animal", "Größe", "animal"]


def named(text, names):
    return labels.label_names(parse(text, FIELD), names)


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("regroup(2, of=5)", "abcde", ("a to c", "d to e")),
        ("regroup(5, of=5)", "abcde", tuple("abcde")),
        ("regroup(2, of=4)", "", ("0 to 1", "2 to 3")),
        ("lookup({0: 1, 1: 0, 2: 1})", "abc", ("b", "a or c")),
        ("lookup({0: 1, 1: 0})", "", ("0", "1")),
        ("onehot(3)", "abc", tuple("abc")),
        ("onehot(3)", "", tuple("012")),
        ("multihot(2)", "abc", tuple("01")),
        ("onehot(3)|smooth(0.2)", "abc", tuple("abc")),
        ("decode|resize|flip", "abc", tuple("abc")),
        ("clevr_count|regroup(4, of=8)|onehot(4)", "", tuple(f"{n} objects to {n + 1} objects" for n in (3, 5, 7, 9))),
    ],
)
def test_classes_are_called_after_what_they_hold(text, names, expected):
    assert named(text, tuple(names)) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("regroup(2, of=4)", "regroup: of = 4, but there are 3 classes"),
        ("regroup(4, of=3)", "regroup: cannot make 4 groups of 3 classes"),
        ("regroup(0, of=3)", "regroup: cannot make 0 groups"),
        ("lookup", "lookup: table must map class numbers"),
        ("lookup({'a': 1})", "lookup: table must map class numbers"),
        ("lookup({0: -1, 1: 0, 2: 0})", "lookup: table must map class numbers"),
        ("lookup({0: 0, 1: 2, 2: 0})", "lookup: no class becomes class 1"),
        ("lookup({0: 0, 1: 1})", r"lookup: class 2 \('c'\) has no entry"),
        ("lookup({0: 0, 1: 1, 2: 0, 3: 1})", "lookup: there is no class 3"),
        ("lookup_file('/no/such.json')", "lookup_file: /no/such.json cannot be read"),
        ("onehot", "onehot: needs the number of classes"),
        ("onehot(4)", "onehot: classes = 4, but there are 3"),
        ("onehot(3)|smooth(1.0)", "smooth: needs 0 <= epsilon < 1"),
    ],
)
def test_arguments_that_do_not_suit_the_classes_are_refused(text, fault):
    with pytest.raises(ValueError, match=fault):
        named(text, tuple("abc"))


@pytest.mark.parametrize("content", ["{", "{}", "[]", '["a", 3]'])
def test_a_lookup_file_must_hold_names(content, tmp_path):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(ValueError, match=r"names\.json"):
        named(f"lookup_file({str(tmp_path / 'names.json')!r})", ())


def test_a_lookup_file_must_fit_the_classes(tmp_path):
    (tmp_path / "names.json").write_text('["a"]')
    with pytest.raises(ValueError, match="has 1 entries, but there are 3 classes"):
        named(f"lookup_file({str(tmp_path / 'names.json')!r})", tuple("abc"))


def test_opening_a_data_set_refuses_what_does_not_suit_its_classes(digits_dir):
    with pytest.raises(BadSetting, match=r"regroup: of = 4, but there are 10 classes"):
        _ = open_dataset(settings("digits", str(digits_dir), "regroup(2, of=4)"), "test").label_names
