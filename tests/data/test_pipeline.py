"""Batches of real images: exact repetition, exact resume, any split over hosts, every evaluated example once."""

import numpy as np
import pytest

from vit_jax.data import DataSettings, decode_files, embedded_split, open_dataset, train_indices
from vit_jax.errors import UserError

pytestmark = pytest.mark.needs_tf


@pytest.fixture
def digits(digits_dir):
    def make(split="test", **settings):
        values = {
            "image_size": (8, 8),
            "train_preprocess": "decode|inception_crop(0.5)|flip|random_affine",
            "eval_preprocess": "decode|resize",
            **settings,
        }
        return open_dataset(DataSettings(data_dir=str(digits_dir), **values), split)

    return make


def train(dataset, first=0, last=4, seed=0, rows=None, batch_size=100):
    rows = np.arange(batch_size) if rows is None else rows
    return list(dataset.train_batches(seed, batch_size, rows, first, last))


def assert_equal(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name]), name


def test_training_batches_are_uint8_images_and_int32_labels(digits):
    (batch,) = train(digits(), last=1, batch_size=7)
    assert batch.keys() == {"image", "label"}
    assert (batch["image"].dtype, batch["image"].shape) == (np.uint8, (7, 8, 8, 3))
    assert (batch["label"].dtype, batch["label"].shape) == (np.int32, (7,))


def test_training_batches_hold_the_images_of_the_stateless_order(digits):
    images, labels = embedded_split("test")
    batches = train(digits(train_preprocess="decode|resize", channels=1), last=5)
    for step, batch in enumerate(batches):
        index, _ = train_indices(0, step, 100, np.arange(100), len(labels))
        assert np.array_equal(batch["label"], labels[index])
        assert np.array_equal(batch["image"][..., 0], images[index])


def test_one_seed_gives_the_same_bytes_twice(digits):
    assert_equal(train(digits()), train(digits()))


def test_another_seed_gives_another_order_and_other_crops(digits):
    dataset = digits()
    (one,), (other,) = (train(dataset, last=1, batch_size=360, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one["label"], other["label"])
    assert np.array_equal(np.sort(one["label"]), np.sort(other["label"]))  # one epoch each
    assert {i.tobytes() for i in one["image"]} != {i.tobytes() for i in other["image"]}


def test_an_example_looks_different_in_every_epoch(digits):
    epochs = train(digits("test[:50]"), last=2, batch_size=50)
    one, other = ({image.tobytes() for image in batch["image"]} for batch in epochs)
    assert len(one & other) < 10


@pytest.mark.parametrize("first", [1, 3, 5])  # step 3 of 100 holds the end of the first epoch
def test_a_stream_started_at_any_step_equals_the_uninterrupted_one(digits, first):
    dataset = digits()
    assert_equal(train(dataset, first, 6), train(dataset, 0, 6)[first:])


def test_a_stream_can_start_far_away(digits):
    (batch,) = train(digits(), 10**9, 10**9 + 1)
    assert batch["image"].shape == (100, 8, 8, 3)


def test_an_empty_range_of_steps_gives_no_batches(digits):
    assert train(digits(), 3, 3) == []


@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
@pytest.mark.parametrize("interleaved", [False, True])
def test_any_split_of_rows_over_hosts_gives_the_same_global_batch(digits, hosts, interleaved):
    dataset, rows = digits(), np.arange(100)
    shares = [rows[host::hosts] for host in range(hosts)] if interleaved else np.array_split(rows, hosts)
    whole = train(dataset, 2, 5)
    for share in shares:
        assert_equal(train(dataset, 2, 5, rows=share), [{k: v[share] for k, v in batch.items()} for batch in whole])


def test_two_streams_at_once_do_not_disturb_each_other(digits):
    dataset = digits(prefetch=1)
    streams = [dataset.train_batches(0, 50, np.arange(50), 0, 6) for _ in range(2)]
    first, second = zip(*zip(*streams, strict=True), strict=True)
    assert_equal(first, second)
    assert_equal(first, train(dataset, last=6, batch_size=50))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 360, 500])
@pytest.mark.parametrize("hosts", [1, 3])
def test_evaluation_counts_every_example_once(digits, batch_size, hosts):
    split = "test[:100]" if batch_size == 1 else "test"
    images, labels = embedded_split("test")
    size = 100 if batch_size == 1 else 360
    dataset = digits(split, channels=1)
    hosts = min(hosts, batch_size)
    shares = np.array_split(np.arange(batch_size), hosts)
    steps = zip(*(dataset.eval_batches(batch_size, share) for share in shares), strict=True)
    batches = [{k: np.concatenate([p[k] for p in parts]) for k in parts[0]} for parts in steps]
    assert [len(b["label"]) for b in batches] == [batch_size] * -(-size // batch_size)
    mask = np.concatenate([b["mask"] for b in batches])
    assert mask.dtype == bool
    assert np.array_equal(np.concatenate([b["label"] for b in batches])[mask], labels[:size])
    assert np.array_equal(np.concatenate([b["image"] for b in batches])[mask][..., 0], images[:size])


def test_grey_images_are_repeated_into_three_channels_or_kept_as_one(digits):
    three, one = (next(digits(channels=c).eval_batches(20, np.arange(20)))["image"] for c in (3, 1))
    assert three.shape == (20, 8, 8, 3)
    assert one.shape == (20, 8, 8, 1)
    assert np.array_equal(three, np.repeat(one, 3, axis=-1))


@pytest.mark.parametrize(
    "text",
    [
        "decode|inception_crop(0.5)|flip",  # host operations only
        "decode|inception_crop(0.5)|flip|random_affine",  # then graph operations
        "decode|resize_small(2)|random_affine|inception_crop(0.5)",  # on images of different sizes, then a host one
    ],
)
def test_all_kinds_of_strings_repeat_resume_and_split(tmp_path, encode, text):
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "train" / str(number % 3) / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (20 + number, 30, 3), np.uint8)
        path.write_bytes(encode(image, "JPEG" if number % 2 else "PNG"))
    settings = DataSettings(name="folder", data_dir=str(tmp_path), image_size=(8, 10), train_preprocess=text)
    dataset = open_dataset(settings, "train")
    whole = train(dataset, 0, 4, batch_size=10)
    assert len({image.tobytes() for batch in whole for image in batch["image"]}) == 40
    assert_equal(train(open_dataset(settings, "train"), 0, 4, batch_size=10), whole)
    assert_equal(train(dataset, 2, 4, batch_size=10), whole[2:])
    for rows in (np.arange(3), np.array([9, 4, 5])):
        share = [{k: v[rows] for k, v in batch.items()} for batch in whole]
        assert_equal(train(dataset, 0, 4, rows=rows, batch_size=10), share)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(digits, threads):
    assert_equal(train(digits(threads=threads)), train(digits()))


def test_batches_that_are_kept_do_not_change_when_their_memory_is_used_again(digits):
    dataset = digits(train_preprocess="decode|inception_crop(0.5)|flip", prefetch=1)
    stream = dataset.train_batches(0, 20, np.arange(20), 0, 60)
    kept = [next(stream) for _ in range(3)]
    copies = [{k: v.copy() for k, v in batch.items()} for batch in kept]
    part = kept[0]["image"][3:5]
    for _ in stream:  # these are dropped at once
        pass
    assert_equal(kept, copies)
    del kept
    assert np.array_equal(part, copies[0]["image"][3:5])


def test_labels_of_several_classes_are_float32(digits_dir, digits):
    # Smoothing is written out by hand: 0.9 for the class and 0.1 spread over all ten.
    dataset = digits(train_preprocess="onehot(10)|smooth(0.1)|decode|resize")
    (batch,) = train(dataset, last=1, batch_size=30)
    (plain,) = train(digits(), last=1, batch_size=30)
    assert batch["label"].dtype == np.float32
    assert np.allclose(batch["label"], 0.9 * np.eye(10)[plain["label"]] + 0.01, atol=1e-6)


def test_a_folder_of_images_gives_batches_with_its_labels(write_images):
    root = write_images({f"train/{i % 3}/{i}.png": i for i in range(30)})
    settings = DataSettings(name="folder", data_dir=str(root), image_size=(4, 6), train_preprocess="decode|resize")
    dataset = open_dataset(settings, "train")
    assert dataset.size == 30
    assert dataset.label_names == ("0", "1", "2")
    batches = train(dataset, last=3, batch_size=10)
    levels = np.concatenate([b["image"][:, 0, 0, 0] for b in batches])
    assert sorted(levels) == list(range(30))
    assert np.array_equal(np.concatenate([b["label"] for b in batches]), levels % 3)


# single files


@pytest.fixture
def settings():
    return DataSettings(image_size=(6, 6), eval_preprocess="decode|resize")


def test_files_are_decoded_as_in_evaluation(write_images, settings):
    root = write_images({"a.png": 10, "b.gif": 20, "c.bmp": 30})
    paths = [str(root / name) for name in ("c.bmp", "a.png", "b.gif")]
    found = decode_files(paths, settings)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.broadcast_to(np.array([30, 10, 20])[:, None, None, None], (3, 6, 6, 3)))


@pytest.mark.parametrize(("name", "reason"), [("missing.png", "No such file or directory"), ("dir.png", "directory")])
def test_a_file_that_cannot_be_read_is_named(write_images, settings, name, reason):
    root = write_images({"a.png": 10})
    (root / "dir.png").mkdir()
    with pytest.raises(UserError) as error:
        decode_files([str(root / "a.png"), str(root / name)], settings)
    assert str(error.value).startswith(f"image {str(root / name)!r} cannot be read: ")
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"no image at all", "it is no image; it starts with b'no image"),
        (b"\x89PNG\r\n\x1a\n cut short", "it is a broken PNG"),
        (b"\xff\xd8\xff\xe0 cut short", "it is a JPEG"),
    ],
)
def test_a_file_that_is_no_image_is_named(write_images, settings, data, reason):
    root = write_images({"a.png": 10})
    (root / "bad.png").write_bytes(data)
    with pytest.raises(UserError) as error:
        decode_files([str(root / "a.png"), str(root / "bad.png")], settings)
    path = str(root / "bad.png")
    assert str(error.value).startswith(f"image {path!r} cannot be decoded: {reason}")
    assert "\n" not in str(error.value)


def test_streams_run_as_they_are_written_on_every_python(digits):
    # AutoGraph would rewrite this `if` where it works and refuse it where it does not.
    dataset = digits()
    parse = dataset.source.parse
    dataset.source.parse = lambda record, label: parse(record, label if label > 0 else -label)
    with pytest.raises(TypeError, match="symbolic"):
        train(dataset, last=1)
