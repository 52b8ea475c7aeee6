"""What a name, a split and a subset open; and mixtures read as batches, on any number of hosts."""

import numpy as np
import pytest

from vit_jax.data import DataSettings, embedded_split, open_dataset
from vit_jax.data.opening import open_source, parse_name
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("digits", [("digits", None, {})]),
        ("imagenet2012:5.*.*", [("imagenet2012:5.*.*", None, {})]),
        ("cifar10_corrupted/brightness_1:1.0.0", [("cifar10_corrupted/brightness_1:1.0.0", None, {})]),
        ("0.7*a+ 0.3 * b/c:1.*.*", [("a", 0.7, {}), ("b/c:1.*.*", 0.3, {})]),
        ("a + b+c", [("a", None, {}), ("b", None, {}), ("c", None, {})]),
        (
            "2 * folder(data_dir='/a b+(c', split=\"train[:5%]+val\") + 1. * m( subset = '10%' , label_key='labels')",
            [
                ("folder", 2, {"data_dir": "/a b+(c", "split": "train[:5%]+val"}),
                ("m", 1, {"subset": "10%", "label_key": "labels"}),
            ],
        ),
    ],
)
def test_names_are_read_as_documented(text, parts):
    assert [(p.name, p.weight, p.arguments) for p in parse_name(text)] == parts


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", "at character 1, '': write name, or 0.7 * name"),
        ("a + + b", "at character 5, '': write name"),
        ("a b", "at character 1, 'a b': write name"),
        ("a:0.7 + 0.3 *", "at character 9, '0.3 *': write name"),
        ("a + 0 * b", "at character 5, '0 * b': a weight must be more than 0"),
        ("0.5 * a + b", "part 2 has no weight: give all parts one, or none"),
        (
            "a + b(datadir='x')",
            'at character 5, "b(datadir=\'x\')": unknown argument datadir; did you mean "data_dir"?',
        ),
        ("a(data_dir=7)", "at character 1, 'a(data_dir=7)': data_dir = 7 must be text in quotes"),
        ("a('x')", "at character 1, \"a('x')\": write name"),
        ("a(data_dir=", "at character 1, 'a(data_dir=': write name"),
        ("a(data_dir=x)", "at character 1, 'a(data_dir=x)': write name"),
        ("a(**{})", "at character 1, 'a(**{})': unknown argument **"),
        ("a(split='x') or b(split='y')", "at character 1, \"a(split='x') or b(split='y')\": write name"),
        ("a()(split='y')", "at character 1, \"a()(split='y')\": write name"),
    ],
)
def test_an_error_points_at_the_part_and_the_character(text, fix):
    with pytest.raises(BadSetting) as error:
        parse_name(text)
    assert str(error.value).startswith(f"config.data.name = {text!r}: ")
    assert fix in str(error.value)


@pytest.fixture
def root(write_images):
    """50 images of 5 classes that have the names of digits, and 10 to evaluate."""
    train = {f"train/{i % 5}/{i:02}.png": i for i in range(50)}
    return str(write_images({**train, **{f"val/{i}/{i}.png": 100 + i for i in range(10)}}))


@pytest.fixture
def settings(root, digits_dir):
    def make(name="folder", data_dir=root, **values):
        values = {
            "image_size": (8, 8),
            "train_preprocess": "decode|resize",
            "eval_preprocess": "decode|resize",
            **values,
        }
        return DataSettings(name=name.format(root=root, digits=digits_dir), data_dir=data_dir, **values)

    return make


def train(dataset, first, last, batch_size=64, rows=None):
    return list(dataset.train_batches(3, batch_size, np.arange(batch_size) if rows is None else rows, first, last))


def test_a_subset_is_of_the_training_split_alone(settings):
    config = settings(subset="20%")
    assert len(open_source(config, "train")) == 10
    assert len(open_source(config, "val")) == 10
    assert len(open_source(config, "train[:50%]")) == 25
    assert len(open_source(settings(subset="20%", train_split="train[:50%]"), "train[:50%]")) == 5
    few = open_source(settings(subset="2 per class"), "train")
    assert np.bincount(few.labels(np.arange(10))).tolist() == [2] * 5
    one, other = (open_source(settings(subset="20%", subset_seed=seed), "train") for seed in (0, 1))
    assert [one.describe(i) for i in range(10)] != [other.describe(i) for i in range(10)]


def test_a_subset_gives_batches_of_its_images_alone(settings):
    config = settings(subset="14%")
    (batch,) = train(open_dataset(config, "train"), 0, 1)
    source = open_source(config, "train")
    assert len(np.unique(batch["image"][:7, 0, 0, 0])) == len(source) == 7
    assert set(batch["image"][:, 0, 0, 0]) == {int(source.describe(i)[-6:-4]) for i in range(7)}


MIXTURE = "3 * folder(data_dir='{root}') + 1 * digits(data_dir='{digits}', split='test', subset='100')"


def test_parts_have_their_own_places_splits_and_subsets(settings, tmp_path):
    config = settings(MIXTURE, data_dir=str(tmp_path), subset="40%")
    source = open_source(config, "train")
    assert len(source) == 20 + 100
    assert source.label_names == tuple("0123456789")
    assert "digits-test" in source.describe(50)


def test_a_mixture_gives_batches_of_images_with_their_labels(settings):
    dataset = open_dataset(settings(MIXTURE), "train")
    assert dataset.size == 150
    (batch,) = train(dataset, 0, 1, batch_size=1024)
    plain = (batch["image"] == batch["image"][:, :1, :1, :1]).all(axis=(1, 2, 3))
    assert plain.sum() == 768
    assert np.array_equal(batch["image"][plain][:, 0, 0, 0] % 5, batch["label"][plain])
    images, labels = embedded_split("test")
    known = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    drawn = {(i[..., 0].tobytes(), int(n)) for i, n in zip(batch["image"][~plain], batch["label"][~plain], strict=True)}
    assert drawn <= known
    assert len(drawn) == 100


@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
def test_a_mixture_is_the_same_on_any_number_of_hosts_and_after_a_resume(settings, hosts):
    dataset = open_dataset(settings(MIXTURE), "train")
    whole = train(dataset, 0, 5)
    for share in np.array_split(np.arange(64), hosts):
        for batch, expected in zip(train(dataset, 2, 5, rows=share), whole[2:], strict=True):
            assert np.array_equal(batch["image"], expected["image"][share])
            assert np.array_equal(batch["label"], expected["label"][share])


def test_a_mixture_is_evaluated_once_in_order(settings):
    dataset = open_dataset(settings("folder(data_dir='{root}') + folder(data_dir='{root}')"), "val")
    batches = list(dataset.eval_batches(16, np.arange(16)))
    mask = np.concatenate([b["mask"] for b in batches])
    levels = np.concatenate([b["image"][:, 0, 0, 0] for b in batches])[mask]
    assert len(levels) == 20
    assert sorted(levels[:10]) == sorted(levels[10:]) == list(range(100, 110))


def test_errors_of_a_part_name_what_is_wrong(settings):
    with pytest.raises(BadSetting, match="synthetic images cannot be mixed"):
        open_source(settings("folder + synthetic"), "train")
    with pytest.raises(BadSetting, match=r"config\.data\.name = .*: the split has only 50 examples"):
        open_source(settings("folder(subset='51')"), "train")
    with pytest.raises(BadSetting, match="split = 'nowhere': there are train, val"):
        open_source(settings("folder(split='nowhere') + folder"), "train")
    with pytest.raises(BadSetting, match=r"config\.data\.subset = '5': synthetic images have no subsets"):
        open_dataset(DataSettings(name="synthetic", subset="5"), "train")


def test_a_data_set_without_labels_needs_an_operation_that_makes_them(settings, digits_dir):
    config = settings("digits", str(digits_dir), label_key=None)
    with pytest.raises(BadSetting, match=r"config\.data\.label_key = None: no operation of config\.data\.eval_prep"):
        open_dataset(config, "train")


def test_manifests_are_opened_by_their_name(settings, tmp_path, root):
    (tmp_path / "list.csv").write_text(f"image,label\n{root}/val/3/3.png,three\n")
    dataset = open_dataset(settings("manifest", str(tmp_path / "list.csv")), "train")
    assert dataset.label_names == ("three",)
    assert train(dataset, 0, 1, batch_size=2)[0]["image"][:, 0, 0, 0].tolist() == [103, 103]


def test_lists_of_labels_give_batches_of_vectors(settings, tmp_path, root):
    (tmp_path / "list.csv").write_text(f"image,labels\n{root}/val/3/3.png,a;b\n{root}/val/4/4.png,\n")
    dataset = open_dataset(settings("manifest", str(tmp_path / "list.csv")), "train")
    (batch,) = dataset.eval_batches(2, np.arange(2))
    assert batch["label"].dtype == np.float32
    assert {int(i[0, 0, 0]): n.tolist() for i, n in zip(batch["image"], batch["label"], strict=True)} == {
        103: [1, 1],
        104: [0, 0],
    }
