"""The table of data sets against TFDS's own builders, the published splits and the settings it must fit."""

import re

import numpy as np
import pytest

from vit_jax.data import DataSettings, catalog, open_dataset
from vit_jax.errors import BadSetting

# Examples of the splits of TFDS that are sliced, as published on the pages of the data sets.
SIZES = {
    "caltech101": {"train": 3_057, "test": 6_087},
    "cifar100": {"train": 50_000, "test": 10_000},
    "oxford_iiit_pet": {"train": 3_680, "test": 3_669},
    "svhn_cropped": {"train": 73_257, "test": 26_032},
    "eurosat": {"train": 27_000},
    "resisc45": {"train": 31_500},
    "clevr": {"train": 70_000, "validation": 15_000},
    "dsprites": {"train": 737_280},
    "smallnorb": {"train": 24_300, "test": 24_300},
}
#: Share of the train part (of VTAB's loaders) after which the validation part begins.
TRAIN_PARTS = {
    "caltech101": 0.9,
    "cifar100": 0.9,
    "pets": 0.8,
    "svhn": 0.9,
    "eurosat": 0.6,
    "resisc45": 0.6,
    "clevr_count": 0.9,
    "clevr_distance": 0.9,
    "dsprites_location": 0.8,
    "dsprites_orientation": 0.8,
}
NATURAL = ["caltech101", "cifar100", "dtd", "flowers102", "pets", "sun397", "svhn"]
SPECIALIZED = ["camelyon", "eurosat", "resisc45", "retinopathy"]
#: Published numbers of classes of the 19 tasks, in the order of the paper's table 9.
CLASSES = [102, 100, 47, 102, 37, 397, 10, 2, 10, 45, 5, 8, 6, 6, 16, 16, 4, 18, 9]


def every(stages=("dev", "final")):
    return [(n, s) for n, t in catalog.TASKS.items() for s in stages if t.data and (t.dev or s == "final")]


def test_vtab_has_its_nineteen_tasks_in_three_groups():
    tasks = [catalog.get(name) for name in catalog.VTAB]
    assert [t.classes for t in tasks] == CLASSES
    groups = {g: [t.name.removeprefix("vtab/") for t in tasks if t.group == g] for g in ("natural", "specialized")}
    assert groups == {"natural": NATURAL, "specialized": SPECIALIZED}
    assert [t.group for t in tasks].count("structured") == 8


def parts(split):
    """[(name, start, stop)] of a sum of absolute slices."""
    found = [re.fullmatch(r"(\w+)\[(\d*):(\d*)\]", part) for part in split.split("+")]
    assert all(found), split
    return [(m[1], int(m[2] or 0), int(m[3])) for m in found]


@pytest.mark.parametrize("name", catalog.VTAB)
def test_a_vtab_task_trains_on_800_and_chooses_on_200_others(name):
    task = catalog.get(name)
    (train,), (val,) = parts(task.dev_train), parts(task.dev)
    assert train == ("train", 0, 800)
    assert val[2] - val[1] == 200
    assert val[0] != "train" or val[1] >= 800
    assert parts(task.train) == [train, val]


@pytest.mark.parametrize("name", TRAIN_PARTS)
def test_validation_begins_where_the_train_part_of_vtab_ends(name):
    task = catalog.get(f"vtab/{name}")
    size = SIZES[re.split("[/:]", task.data)[0]]["train"]
    assert parts(task.dev) == [("train", int(size * TRAIN_PARTS[name]), int(size * TRAIN_PARTS[name]) + 200)]


@pytest.mark.parametrize(
    ("name", "test", "size"),
    [
        ("eurosat", "train[21600:]", 5_400),
        ("resisc45", "train[25200:]", 6_300),
        ("dsprites_location", "train[663552:]", 73_728),
    ],
)
def test_the_last_part_of_a_set_without_test_split_is_the_test(name, test, size):
    task = catalog.get(f"vtab/{name}")
    assert task.test == test
    total = SIZES[re.split("[/:]", task.data)[0]]["train"]
    assert total - int(re.search(r"\d+", test)[0]) == size
    assert size == pytest.approx(total * (0.1 if "dsprites" in name else 0.2))


def test_only_these_tasks_forbid_flips_and_crops():
    names = {"flip": set(), "crop": set()}
    for task in catalog.TASKS.values():
        for kind, found in names.items():
            if not getattr(task, kind):
                found.add(task.title)
    assert names["flip"] == {"dSpr-Ori", "sNORB-Azim", "dSpr-Loc", "Digits (embedded)"}
    assert names["crop"] == {"Clevr-Count", "Clevr-Dist", "DMLab", "KITTI-Dist", "dSpr-Loc"}


@pytest.mark.parametrize(("name", "stage"), every())
def test_settings_can_be_built_and_have_what_the_task_allows(name, stage):
    task = catalog.get(name)
    found = catalog.settings_for(name, stage)
    built = DataSettings(**found["data"])
    assert built.name == task.data
    assert found["evaluate"]["split"] == (task.dev if stage == "dev" else task.test)
    if task.train:
        assert built.train_split == (task.dev_train if stage == "dev" else task.train)
        assert ("flip" in built.train_preprocess) == task.flip
        assert ("random_crop" in built.train_preprocess or "inception_crop" in built.train_preprocess) == task.crop
    else:
        assert "train_split" not in found["data"]
    for text in (built.train_preprocess, built.eval_preprocess):
        assert text.startswith(f"{task.labels}|decode|" if task.labels else "decode|")
    assert not re.search("flip|random|inception", built.eval_preprocess)


@pytest.mark.parametrize(
    ("name", "crops", "size", "train", "evaluation"),
    [
        ("cifar10", "vit", 384, "resize(ratio=1.167)|random_crop|flip", "resize"),
        ("cifar10", "bit", 128, "resize(ratio=1.25)|random_crop|flip", "resize"),
        ("cifar10", "bit_large", 128, "resize(ratio=1.25)|random_crop|flip", "resize"),
        ("oxford_iiit_pet", "bit", 384, "resize(ratio=1.167)|random_crop|flip", "resize"),
        ("oxford_iiit_pet", "bit_large", 480, "resize(ratio=1.067)|random_crop|flip", "resize"),
        ("imagenet2012", "pretrain", 224, "inception_crop|flip", "resize_small|central_crop"),
        ("imagenet21k", None, 224, "inception_crop|flip", "resize_small|central_crop"),
        ("vtab/dmlab", None, 384, "resize|flip", "resize"),
        ("vtab/smallnorb_azimuth", None, 384, "resize(ratio=1.167)|random_crop", "resize"),
        ("objectnet", "bit_large", 480, None, "resize_small(ratio=1.067)|central_crop"),
    ],
)
def test_sizes_and_crops_are_those_of_the_crops(name, crops, size, train, evaluation):
    data = catalog.settings_for(name, crops=crops)["data"]
    assert data["image_size"] == (size, size)
    assert data.get("train_preprocess") == (train and f"decode|{train}")
    assert data["eval_preprocess"] == f"decode|{evaluation}"


@pytest.mark.parametrize(("ratio", "image", "side"), [("1.167", 384, 448), ("1.25", 128, 160), ("1.067", 480, 512)])
def test_the_rounded_ratios_give_the_published_sizes(ratio, image, side):
    assert round(image * float(ratio)) == side


@pytest.mark.parametrize(
    ("name", "dev"),
    [("cifar10", "train[98%:]"), ("imagenet2012", "train[99%:]"), ("oxford_iiit_pet", "train[90%:]")],
)
def test_dev_splits_are_cut_from_training(name, dev):
    found = catalog.settings_for(name, "dev")
    assert found["evaluate"]["split"] == dev
    assert found["data"]["train_split"] == dev.replace("[", "[:").replace(":]", "]")


@pytest.mark.needs_tf
def test_a_set_of_ones_own_needs_its_name():
    pytest.importorskip("tensorflow")
    with pytest.raises(BadSetting, match=r"name = 'jft': jft is not public: set config\.data\.name to a TFDS data set"):
        open_dataset(DataSettings(task="jft"), "train")


def test_a_set_of_ones_own_takes_its_name():
    assert catalog.settings_for("jft")["data"]["name"] == "jft"  # to plan with: it cannot be opened
    assert catalog.settings_for("jft", data_name="mine")["data"]["name"] == "mine"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("cifar_10",), "task = 'cifar_10': not in the catalog; did you mean \"cifar10\"?"),
        (("cifar10", "test"), "stage = 'test': must be dev or final"),
        (("objectnet", "dev"), "stage = 'dev': objectnet is only evaluated; take final"),
        (("cifar10", "final", "bt"), "crops = 'bt': did you mean \"bit\"?"),
    ],
)
def test_what_is_not_in_the_catalog_is_refused(arguments, fault):
    with pytest.raises(BadSetting) as error:
        catalog.settings_for(*arguments)
    assert str(error.value) == fault


@pytest.mark.needs_tf
@pytest.mark.parametrize(
    "name", sorted({t.name for t in catalog.TASKS.values() if t.data} - {"imagenet21k", "objectnet", "digits"})
)
def test_tfds_knows_the_data_set_its_version_and_its_classes(name, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    task = catalog.get(name)
    builder = tfds.builder(task.data, data_dir=str(tmp_path), try_gcs=False)
    wanted = task.data.partition(":")[2].replace(".", r"\.").replace("*", r"\d+")
    assert re.fullmatch(wanted, str(builder.version))
    assert bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS) == bool(task.manual)
    features = builder.info.features
    if task.label_key is None:
        assert "label" not in features
    else:
        kind = features[task.label_key]
        many = isinstance(kind, tfds.features.Sequence)
        assert many == (task.metric == "any_of")
        classes = (kind.feature if many else kind).num_classes
        grouping = re.search(r"regroup\((\d+), of=(\d+)\)", task.labels)
        assert (classes, task.classes) == ((int(grouping[2]), int(grouping[1])) if grouping else (classes, classes))
    shape = features["image"].shape
    if None not in shape:
        assert task.small == (np.prod(shape[:2]) < 96 * 96)


def strings():
    """All pre-processing strings of the catalog, each once."""
    found = [
        catalog.settings_for(name, crops=crops)["data"] for name, _ in every(("final",)) for crops in catalog.CROPS
    ]
    return sorted({data[key] for data in found for key in ("train_preprocess", "eval_preprocess") if key in data})


@pytest.mark.needs_tf
@pytest.mark.parametrize("text", strings())
def test_every_pre_processing_string_can_be_compiled(text):
    pytest.importorskip("tensorflow")
    from vit_jax.data import check_preprocess

    check_preprocess(DataSettings(image_size=(48, 48), train_preprocess=text, eval_preprocess=text))
