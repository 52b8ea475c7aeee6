"""The embedded digits: scikit-learn's scans, prepared offline so that plain TFDS reads them."""

import hashlib
import inspect
import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from vit_jax import data
from vit_jax.data import embedded_split, prepare, prepare_embedded
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf

FIRST_TEST_LABELS = [7, 6, 3, 7, 7, 3, 2, 8, 9, 3, 2, 6, 6, 4, 5, 8, 1, 3, 5, 6]

PLAIN_TFDS = """
import hashlib, json, sys
import tensorflow_datasets as tfds
import numpy as np
found = {}
for split in ("train", "test"):
    examples = list(tfds.as_numpy(tfds.load("digits", data_dir=sys.argv[1], split=split)))
    images = np.stack([e["image"] for e in examples])
    found[split] = [images.shape, hashlib.sha1(images.tobytes()).hexdigest(), [int(e["label"]) for e in examples]]
assert not any(name.startswith("vit_jax") for name in sys.modules)
print(json.dumps(found))
"""


def scaled_scans():
    """[(image bytes, label)] of scikit-learn's whole set."""
    digits = load_digits()
    images = [np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in digits.images]
    return sorted(zip(images, digits.target.tolist(), strict=True))


def test_the_splits_are_all_of_scikit_learns_scans_scaled_and_nothing_else():
    parts = [embedded_split(split) for split in ("train", "test")]
    assert [(images.shape, images.dtype) for images, _ in parts] == [((1437, 8, 8), np.uint8), ((360, 8, 8), np.uint8)]
    ours = [
        (image.tobytes(), int(label)) for images, labels in parts for image, label in zip(images, labels, strict=True)
    ]
    assert sorted(ours) == scaled_scans()


def test_no_image_is_in_both_splits():
    train, test = ({image.tobytes() for image in embedded_split(split)[0]} for split in ("train", "test"))
    assert not train & test


def test_the_splits_have_the_same_classes_in_the_same_proportions():
    train, test = (np.bincount(embedded_split(split)[1], minlength=10) for split in ("train", "test"))
    assert abs(test - (train + test) * 360 / 1797).max() < 1


def test_the_splits_never_change():
    # Results of different times are compared on them; scikit-learn promises a stable split for one random_state.
    assert embedded_split("test")[1][:20].tolist() == FIRST_TEST_LABELS


@pytest.mark.slow
def test_plain_tfds_in_a_fresh_process_reads_what_we_prepared(digits_dir):
    command = [sys.executable, "-c", PLAIN_TFDS, str(digits_dir)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=digits_dir)
    found = json.loads(done.stdout)
    for split in ("train", "test"):
        images, labels = embedded_split(split)
        assert found[split][0] == [len(labels), 8, 8, 1]
        assert found[split][1] == hashlib.sha1(images.tobytes()).hexdigest()  # in the same order, too
        assert found[split][2] == labels.tolist()


def test_preparing_asks_for_no_address_and_reports_the_sizes(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("looked up an address")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert prepare("digits", str(tmp_path)) == {"train": 1437, "test": 360}
    assert tfds.builder("digits", data_dir=str(tmp_path)).info.splits["train"].num_examples == 1437


def test_preparing_again_touches_nothing(digits_dir):
    def state():
        return {p: p.stat().st_mtime_ns for p in digits_dir.rglob("*") if p.is_file()}

    before = state()
    assert len(before) >= 4
    assert prepare("digits", str(digits_dir)) == {"train": 1437, "test": 360}
    prepare_embedded("digits", str(digits_dir))
    assert state() == before


def test_prepare_embedded_prepares_the_embedded_and_leaves_others_alone(tmp_path):
    for name in ("mnist", "folder", "synthetic", "no such name"):
        prepare_embedded(name, str(tmp_path))
    assert not list(tmp_path.iterdir())
    prepare_embedded("digits", str(tmp_path))
    assert (tmp_path / "digits" / "1.0.0" / "dataset_info.json").exists()


@pytest.mark.parametrize("name", ["no_such_set", "no name!", "digits2"])
def test_preparing_an_unknown_name_is_refused(tmp_path, name):
    with pytest.raises(BadSetting, match=f"name = '{name}': no such TFDS data set"):
        prepare(name, str(tmp_path))


def test_public_names_stay_functions_after_their_use(digits_dir):
    # A lazily imported submodule of the same name would take the function's place.
    prepare("digits", str(digits_dir))
    prepare_embedded("digits", str(digits_dir))
    embedded_split("test")
    functions = [name for name in data.__all__ if name[0].islower()]
    assert all(inspect.isfunction(getattr(data, name)) for name in functions)
