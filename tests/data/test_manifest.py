"""Lists of images in CSV, TSV and JSONL files: what they mean, and errors that name the line."""

import json

import numpy as np
import pytest
import tensorflow as tf

from vit_jax.data import manifest
from vit_jax.data.manifest import ManifestSource
from vit_jax.errors import BadSetting, UserError

pytestmark = pytest.mark.needs_tf

ROWS = [("a.png", "cat"), ("deep/b c.png", "dog"), ("ü.png", "cat"), ("d.png", "a bird")]


@pytest.fixture
def write(tmp_path, write_images):
    """Writes a list beside images with the grey levels 0, 10, 20, ... and gives its path."""
    write_images({name: 10 * i for i, (name, _) in enumerate(ROWS)})

    def make(name, text, labels=None):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        if labels is not None:
            (path.parent / "labels.txt").write_text("\n".join(labels))
        return str(path)

    return make


def levels(source):
    """[(grey level, label)] in the order of the levels."""
    records, labels = source.fetch(np.arange(len(source)))
    images = [tf.io.decode_image(r, expand_animations=False).numpy()[0, 0, 0] for r in records]
    rows = [label.tolist() if source.multi_label else source.label_names[label] for label in labels]
    return sorted(zip(map(int, images), rows, strict=True))


EXPECTED = [(0, "cat"), (10, "dog"), (20, "cat"), (30, "a bird")]
LISTS = {
    "a.csv": "image,label\n" + "".join(f"{a},{b}\n" for a, b in ROWS),
    "b.csv": '\ufeff Label ,size,Path\r\n\r\n"cat",1,a.png\r\ndog,2,deep/b c.png\r\ncat,,ü.png\r\na bird,,d.png\r\n',
    "c.tsv": "path\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in ROWS),
    "d.jsonl": "\n".join(json.dumps({"image": a, "label": b, "more": [1]}) for a, b in ROWS) + "\n\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_all_kinds_are_read(write, name):
    source = ManifestSource(write(name, LISTS[name]), "train")
    assert source.label_names == ("a bird", "cat", "dog")
    assert levels(source) == EXPECTED
    assert source.fetch(np.arange(4))[1].dtype == np.int32


def test_absolute_paths_and_a_list_elsewhere_work(write, tmp_path):
    folder = tmp_path / "images"
    path = write("../elsewhere/a.csv", "path,label\n" + "".join(f"{folder / a},{b}\n" for a, b in ROWS))
    assert levels(ManifestSource(path, "train")) == EXPECTED


def test_a_column_names_the_splits_which_share_their_classes(write):
    path = write("a.csv", "image,label,split\na.png,cat,train\nd.png,owl,val\nü.png,cat,train\n")
    train, val = (ManifestSource(path, split) for split in ("train", "val"))
    assert levels(train) == [(0, "cat"), (20, "cat")]
    assert levels(val) == [(30, "owl")]
    assert train.label_names == val.label_names == ("cat", "owl")
    assert len(ManifestSource(path, "train[:1]+val")) == 2
    with pytest.raises(BadSetting) as error:
        ManifestSource(path, "test")
    assert str(error.value) == "split = 'test': there are train, val and slices of them"


def test_a_folder_holds_a_list_for_each_split(write, tmp_path):
    write("train.csv", "image,label\na.png,cat\n")
    write("val.jsonl", '{"path": "d.png", "label": "owl"}')
    folder = str(tmp_path / "images")
    assert levels(ManifestSource(folder, "train")) == [(0, "cat")]
    assert levels(ManifestSource(folder, "val")) == [(30, "owl")]
    assert ManifestSource(folder, "val").label_names == ("cat", "owl")
    write("val.csv", "image,label\na.png,cat\n")
    with pytest.raises(BadSetting, match="holds several lists called 'val': keep one"):
        ManifestSource(folder, "train")


def test_slices_hold_every_class_whatever_the_order_of_the_list(write, monkeypatch):
    path = write("a.csv", "image,label\n" + "".join(f"{i}.png,{i // 100}\n" for i in range(400)))
    monkeypatch.setattr(manifest, "CHECKED_FILES", 0)  # there are none
    parts = [ManifestSource(path, split) for split in ("train[:10%]", "train[10%:]")]
    labels = [part.labels(np.arange(len(part))) for part in parts]
    assert [len(part) for part in parts] == [40, 360]
    assert set(labels[0]) == set(labels[1]) == {0, 1, 2, 3}
    assert np.array_equal(np.bincount(np.concatenate(labels)), [100] * 4)


# labels


def test_numbers_are_classes_in_the_order_of_their_values(write):
    path = write("a.jsonl", '{"image": "a.png", "label": 10}\n{"image": "d.png", "label": "9"}\n')
    source = ManifestSource(path, "train")
    assert source.label_names == ("9", "10")
    assert levels(source) == [(0, "10"), (30, "9")]


def test_labels_txt_gives_the_classes_by_name_or_number(write):
    names = ["owl", "cat", "Cat", "dog", "a bird"]
    source = ManifestSource(write("a.csv", LISTS["a.csv"], names), "train")
    assert source.label_names == tuple(names)
    assert levels(source) == EXPECTED
    source = ManifestSource(write("b.csv", "image,label\na.png,3\nd.png,0\n"), "train")
    assert levels(source) == [(0, "dog"), (30, "owl")]


def test_a_label_that_is_not_in_labels_txt_is_named(write):
    path = write("a.csv", "image,label\na.png,cat\nd.png,dgo\n", ["cat", "dog"])
    with pytest.raises(BadSetting) as error:
        ManifestSource(path, "train")
    fix = "has the label 'dgo', which is not in labels.txt; did you mean \"dog\"?"
    assert str(error.value) == f"config.data.data_dir = {path!r}: {fix}"


@pytest.mark.parametrize("names", [["a", "b", "a"], [" "]])
def test_labels_txt_holds_each_class_once(write, names):
    with pytest.raises(UserError, match=r"labels\.txt must hold each class once, one a line"):
        ManifestSource(write("a.csv", LISTS["a.csv"], names), "train")


MULTI = {
    "a.csv": "image,labels\na.png,dog;cat\nd.png,\nü.png, owl ;owl\n",
    "a.jsonl": '{"image": "a.png", "labels": ["dog", "cat"]}\n{"image": "d.png", "labels": []}\n'
    '{"image": "ü.png", "labels": ["owl", "owl"]}',
}


@pytest.mark.parametrize("name", MULTI)
def test_an_image_may_have_several_labels_or_none(write, name):
    source = ManifestSource(write(name, MULTI[name]), "train")
    assert source.multi_label
    assert source.label_names == ("cat", "dog", "owl")
    assert source.labels(np.arange(3)).dtype == np.float32
    assert levels(source) == [(0, [1, 1, 0]), (20, [0, 0, 1]), (30, [0, 0, 0])]
    assert len(ManifestSource(write(name, MULTI[name]), "train[1:]").labels(np.array([1, 0, 1]))) == 3


def test_slices_keep_the_labels_of_their_images(write):
    path = write("a.csv", "image,labels,split\n" + "".join(f"{a},{b};x,s{i % 2}\n" for i, (a, b) in enumerate(ROWS)))
    source = ManifestSource(path, "s1")
    assert source.label_names == ("a bird", "cat", "dog", "x")
    assert levels(source) == [(10, [0, 0, 1, 1]), (30, [1, 0, 0, 1])]


def test_label_and_labels_do_not_mix(write):
    path = write("a.jsonl", '{"image": "a.png", "label": "x"}\n{"image": "d.png", "labels": ["x"]}')
    with pytest.raises(BadSetting, match="has `label` in some places and `labels` in others: use one of them"):
        ManifestSource(path, "train")


def test_classes_that_differ_only_in_case_are_refused(write):
    with pytest.raises(BadSetting, match="the classes 'Cat' and 'cat' differ only in spelling: rename one"):
        ManifestSource(write("a.csv", "image,label\na.png,cat\nd.png,Cat\n"), "train")


# errors


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a.png,cat\n", "line 1: names the columns: `image` or `path`, and `label` or `labels`; found a.png,"),
        ("a.csv", "", "line 1: names the columns: `image` or `path`, and `label` or `labels`; found nothing"),
        ("a.csv", "image,name\na.png,cat\n", "line 1: names the columns"),
        ("a.csv", "image,label,labels\n", "line 1: names the columns"),
        ("a.csv", "image,label\na.png,cat\n\nb.png\n", "line 4: has 1 cells, the first line 2"),
        ("a.csv", "image,label\n,cat\n", "line 2: image = '' is no path"),
        ("a.csv", "image,label\na.png,\n", "line 2: label = '' must be a name or a whole number"),
        ("a.csv", "image,label,split\na.png,cat,\n", "line 2: split = '' is no name"),
        ("a.jsonl", '{"image": "a.png", "label": 1}\n{"image": "b', "line 2: is no JSON (Unterminated string"),
        ("a.jsonl", '\n["a.png", 1]', "line 2: must be a JSON object"),
        ("a.jsonl", '{"img": "a.png", "label": 1}', "line 1: image = None is no path"),
        ("a.jsonl", '{"image": "a.png"}', "line 1: needs either `label` or `labels`"),
        ("a.jsonl", '{"image": "a.png", "label": 1.5}', "line 1: label = 1.5 must be a name or a whole number"),
        ("a.jsonl", '{"image": "a.png", "label": null}', "line 1: label = None must be a name or a whole number"),
        ("a.jsonl", '{"image": "a.png", "label": true}', "line 1: label = True must be a name or a whole number"),
        ("a.jsonl", '{"image": "a.png", "labels": [null]}', "line 1: labels = [None] must be a name or a whole number"),
    ],
)
def test_an_error_names_the_file_and_the_line(write, name, text, message):
    path = write(name, text)
    with pytest.raises(UserError) as error:
        ManifestSource(path, "train")
    assert str(error.value).startswith(f"{path}, {message}")
    assert "\n" not in str(error.value)


def test_a_list_in_another_encoding_is_named(write, tmp_path):
    path = write("a.csv", "")
    (tmp_path / "images/a.csv").write_bytes("image,label\nü.png,cat\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        ManifestSource(path, "train")


def test_a_missing_image_is_found_when_the_list_is_opened(write):
    path = write("a.csv", "image,label\na.png,cat\nmissing.png,dog\n")
    with pytest.raises(BadSetting) as error:
        ManifestSource(path, "train")
    assert str(error.value).startswith(f"config.data.data_dir = {path!r}: lists an image that is not there: ")
    assert str(error.value).endswith("/images/missing.png")


@pytest.mark.parametrize("name", [None, "nowhere.csv", "empty", "a.png"])
def test_a_list_that_is_not_there_says_what_is_needed(write, tmp_path, name):
    (tmp_path / "images/empty").mkdir()
    path = name and str(tmp_path / "images" / name)
    with pytest.raises(BadSetting, match=r"a `manifest` data set needs a \.csv, \.tsv or \.jsonl file, or a folder"):
        ManifestSource(path, "train")


@pytest.mark.parametrize("split", ["train[:0]", "train[3:1]"])
def test_an_empty_split_is_refused(write, split):
    with pytest.raises(BadSetting, match="holds no images"):
        ManifestSource(write("a.csv", LISTS["a.csv"]), split)
