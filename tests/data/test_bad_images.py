"""Images that cannot be used: skipped, counted and named, or an error; the same on any number of hosts."""

import logging

import numpy as np
import pytest
import tensorflow as tf

from vit_jax.data import DataSettings, open_dataset, train_indices
from vit_jax.data import pipeline as pipeline_module
from vit_jax.errors import BadSetting, UserError

pytestmark = pytest.mark.needs_tf

SIZE = 40


@pytest.fixture
def folder(write_images, monkeypatch):
    """Gives a folder data set of 40 images of as many levels; `bad` of them are broken, each in its own way."""
    monkeypatch.setattr(pipeline_module, "BAD_SHARE", 0.5)

    def make(bad=0, **settings):
        names = [f"train/{i % 4}/Bild {i} ü.png" for i in range(SIZE)]
        root = write_images({name: i + 100 for i, name in enumerate(names)})
        whole = (root / names[0]).read_bytes()
        for number, name in enumerate(names[:bad]):
            (root / name).write_bytes([b"", b"<html>", whole[:30], b"\xff\xd8\xff\xe0"][number % 4])
        values = {"train_preprocess": "decode|resize|flip", "eval_preprocess": "decode|resize", **settings}
        return open_dataset(DataSettings(name="folder", data_dir=str(root), image_size=(4, 6), **values), "train")

    return make


def train(dataset, last=8, rows=None, batch_size=10):
    rows = np.arange(batch_size) if rows is None else rows
    return list(dataset.train_batches(0, batch_size, rows, 0, last))


def joined(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def test_in_training_another_image_stands_in_the_place_of_a_bad_one(folder):
    good = folder()
    batches = train(good)
    images, labels = (joined(batches, name) for name in ("image", "label"))
    some = folder(bad=6)
    batches = train(some)
    found_images, found_labels = (joined(batches, name) for name in ("image", "label"))
    index = np.concatenate([train_indices(0, step, 10, np.arange(10), SIZE)[0] for step in range(8)])
    level = np.array([int(good.source.describe(int(i)).split("Bild ")[1].split(" ")[0]) for i in index])
    bad = level < 6
    assert bad.sum() == 12
    assert np.array_equal(found_images[~bad], images[~bad])
    assert np.array_equal(found_labels[~bad], labels[~bad])
    assert (found_images >= 106).all()  # whole images, none of them bad
    assert np.array_equal((found_images[:, 0, 0, 0] - 100) % 4, found_labels)  # with their own labels
    assert len(set(found_images[bad, 0, 0, 0])) > 4
    assert some.skipped == 12


@pytest.mark.parametrize("hosts", [2, 3])
def test_replacements_do_not_depend_on_hosts_or_on_where_a_stream_starts(folder, hosts):
    dataset = folder(bad=8)
    whole = train(dataset)
    for rows in np.array_split(np.arange(10), hosts):
        share = train(dataset, rows=rows)
        assert np.array_equal(joined(share, "image"), np.concatenate([b["image"][rows] for b in whole]))
        assert np.array_equal(joined(share, "label"), np.concatenate([b["label"][rows] for b in whole]))
    late = list(dataset.train_batches(0, 10, np.arange(10), 5, 8))
    assert np.array_equal(joined(late, "image"), joined(whole[5:], "image"))


def test_in_evaluation_bad_images_are_masked(folder):
    dataset = folder(bad=6)
    batches = list(dataset.eval_batches(16, np.arange(16)))
    images, mask = joined(batches, "image"), joined(batches, "mask")
    assert len(mask) == 48
    assert mask.sum() == SIZE - 6
    assert sorted(images[mask][:, 0, 0, 0]) == list(range(106, 100 + SIZE))
    assert np.array_equal((images[mask][:, 0, 0, 0] - 100) % 4, joined(batches, "label")[mask])
    assert not images[:SIZE][~mask[:SIZE]].any()
    assert dataset.skipped == 6


def test_each_bad_image_is_named_once_with_its_reason(folder, caplog):
    dataset = folder(bad=4)
    with caplog.at_level(logging.WARNING):
        train(dataset)
        train(dataset)
    assert dataset.skipped == 16
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 4
    for number, reason in enumerate(["is empty", "is no image", "is a broken PNG", "breaks off"]):
        (line,) = [m for m in messages if f"Bild {number} ü.png" in m]
        assert line.startswith("skipped image ")
        assert reason in line


def test_nothing_is_skipped_of_good_images(folder, caplog):
    dataset = folder()
    train(dataset)
    assert dataset.skipped == 0
    assert not caplog.records


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_on_error_raise_stops_at_the_first(folder, mode):
    dataset = folder(bad=1, on_error="raise")
    stream = (
        dataset.train_batches(0, 10, np.arange(10), 0, 8)
        if mode == "train"
        else dataset.eval_batches(10, np.arange(10))
    )
    with pytest.raises(UserError, match=r"image '.*Bild 0 ü.png' is empty") as error:
        list(stream)
    assert "\n" not in str(error.value)


def test_more_than_one_percent_stop_the_run_with_one_line(folder, monkeypatch):
    monkeypatch.setattr(pipeline_module, "BAD_SHARE", 0.01)
    dataset = folder(bad=2)
    stream = dataset.train_batches(0, 10, np.arange(10), 0, 50)
    for _ in range(9):
        next(stream)
    with pytest.raises(UserError) as error:
        next(stream)
    message = str(error.value)
    assert message.startswith(f"{dataset.skipped} of 100 images cannot be used, more than 1%; one of them: ")
    assert ".png" in message
    assert "\n" not in message


def test_one_percent_does_not_stop_the_run(monkeypatch, folder):
    monkeypatch.setattr(pipeline_module, "BAD_SHARE", 0.026)
    dataset = folder(bad=1)  # 2.5 %
    assert len(train(dataset, last=8, batch_size=SIZE)) == 8
    assert dataset.skipped == 8


def test_nothing_but_bad_images_ends_in_one_line(folder):
    dataset = folder(bad=SIZE)
    with pytest.raises(UserError, match=r"cannot be used, nor can 20 tried in its place; the last is"):
        train(dataset)


def test_padding_is_not_counted(folder):
    dataset = folder(bad=SIZE)
    for _ in range(2):  # a batch of 100 holds 40 images and 60 repeats
        list(dataset.eval_batches(100, np.arange(100)))
    with pytest.raises(UserError, match="120 of 120 images cannot be used"):
        list(dataset.eval_batches(100, np.arange(100)))


def test_a_file_that_vanishes_is_skipped(folder):
    dataset = folder()
    path = dataset.source.describe(3)
    tf.io.gfile.remove(path)
    batches = list(dataset.eval_batches(10, np.arange(10)))
    assert np.flatnonzero(~joined(batches, "mask")).tolist() == [3]
    assert dataset.skipped == 1


def test_images_too_small_for_a_crop_are_bad(folder):
    dataset = folder(train_preprocess="decode|random_crop(2)")  # 6x6, with 2 on each side, for 4x6
    assert len(train(dataset)) == 8
    assert dataset.skipped == 0
    wide = open_dataset(
        DataSettings(name="folder", data_dir=dataset.settings.data_dir, train_preprocess="decode|random_crop"), "train"
    )
    with pytest.raises(UserError, match="is 6x6, too small for random_crop"):
        train(wide)


# records


@pytest.fixture
def record_with(digits_dir, monkeypatch):
    """Digits whose record of one example is replaced by these bytes."""
    monkeypatch.setattr(pipeline_module, "BAD_SHARE", 0.5)

    def make(record, text="decode|resize"):
        settings = DataSettings(
            data_dir=str(digits_dir), image_size=(8, 8), train_preprocess=text, eval_preprocess=text
        )
        dataset = open_dataset(settings, "test[:20]")
        fetch = dataset.source.fetch

        def fetched(indices):
            records, labels = fetch(indices)
            return [record if i == 5 else r for i, r in zip(indices, records, strict=True)], labels

        monkeypatch.setattr(dataset.source, "fetch", fetched)
        return dataset

    return make


@pytest.mark.parametrize("record", [b"", b"\xffno record"])
def test_a_broken_record_is_a_bad_image(record_with, record, caplog):
    dataset = record_with(record)
    batches = list(dataset.eval_batches(7, np.arange(7)))
    assert np.flatnonzero(~joined(batches, "mask")).tolist() == [5, 20]  # 20 is padding
    assert dataset.skipped == 1
    assert "has a record that cannot be used" in caplog.text
    assert all(batch["image"].any() for batch in train(dataset, last=4))


def test_a_label_that_no_class_has_makes_a_bad_image(record_with, caplog):
    from vit_jax.data import embedded_split

    labels = embedded_split("test")[1][:20]
    dataset = record_with(b"", "onehot(7)|decode|resize")
    batches = list(dataset.eval_batches(20, np.arange(20)))
    expected = (labels < 7) & (np.arange(20) != 5)
    assert np.array_equal(joined(batches, "mask"), expected)
    assert joined(batches, "label").shape == (20, 7)


def test_label_operations_that_do_not_suit_the_records_are_bad_settings(record_with):
    with pytest.raises(BadSetting, match=r"config.data.train_preprocess = 'smooth.*put onehot\(classes\) before"):
        train(record_with(b"", "smooth|decode|resize"))


@pytest.mark.parametrize("value", ["ignore", "", "Skip"])
def test_on_error_is_one_of_two_words(value):
    with pytest.raises(BadSetting, match=r"on_error = .*: must be skip or raise"):
        DataSettings(on_error=value)
