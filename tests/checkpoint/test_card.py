"""The texts beside an export: true, complete, and their code runs."""

import json

import jax
import numpy as np
import pytest

from tests import snippets
from vit_jax.checkpoint import Metadata, export_npz
from vit_jax.checkpoint.card import NPZ, ONNX, write_card, write_preprocessing
from vit_jax.models import Model, ModelSettings

MODEL = Model(ModelSettings("mu/4"), (8, 12), 3, 3)
CONFIG = {
    "data": {
        "name": "folder",
        "data_dir": "/home/someone/secret",
        "eval_preprocess": "decode|resize_small|central_crop",
    },
    "train": {"batch_size": 512, "loss": "sigmoid"},
    "optimizer": {"name": "adamw"},
    "log": {"every": "1 step"},
}
METADATA = Metadata(MODEL, ("cat", "dog", "eel"), CONFIG, 1234)
PUBLISHED = Metadata(MODEL, (), {})


def preprocessing(folder, metadata):
    return json.loads(write_preprocessing(folder, metadata).read_text())


def test_a_card_says_what_the_model_is_and_how_it_was_trained(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"12345")
    path = write_card(tmp_path, METADATA, [tmp_path / "model.onnx"], ONNX)
    assert path == tmp_path / "README.md"
    text = path.read_text()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(MODEL.abstract_params))
    for fact in (
        "# mu/4",
        f"{parameters:,} parameters",
        "ONNX, float32",
        "float32 (b, 8, 12, 3), any b, values in [-1, 1]",
        "float32 (b, 3); probabilities are their sigmoid",
        "3; names in the order of the logits are in `preprocessing.json`",
        "`model.onnx`, 5 bytes",
        "1,234 steps",
        '"batch_size": 512',
        '"name": "adamw"',
        "Licence\n\nNot stated.",
        f"jax {jax.__version__}",
    ):
        assert fact in text, fact
    assert "secret" not in text  # where the data lay is nobody's business
    assert '"every"' not in text


def test_a_card_without_a_config_says_so(tmp_path):
    text = write_card(tmp_path, PUBLISHED, [], ONNX).read_text()
    assert "not recorded" in text
    assert "steps with this config" not in text
    assert "probabilities are their softmax" in text
    assert "3; their names are not recorded" in text


def test_logits_of_every_token_have_their_shape_on_the_card(tmp_path):
    metadata = Metadata(Model(ModelSettings("mu/4", pool="none"), (8, 12), 3, 3), (), {})
    assert "float32 (b, 6, 3)" in write_card(tmp_path, metadata, [], ONNX).read_text()


def test_the_code_for_npz_runs(tmp_path, monkeypatch):
    params = jax.jit(MODEL.init)(jax.random.key(0))
    files = export_npz(params, METADATA, tmp_path / "name.npz")
    write_card(tmp_path, METADATA, files, NPZ)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(snippets.snippet(tmp_path), scope)
    np.testing.assert_array_equal(scope["logits"], MODEL.apply(params, np.zeros((1, 8, 12, 3), np.float32))["logits"])


def test_preprocessing_names_labels_in_the_order_of_the_logits_and_the_value_range(tmp_path):
    found = preprocessing(tmp_path, METADATA)
    assert found["labels"] == ["cat", "dog", "eel"]
    assert found["image_size"] == {"height": 8, "width": 12}
    assert found["channels"] == 3
    assert found["value_range"] == [-1, 1]
    assert found["logits_to_probabilities"] == "sigmoid"
    assert found["eval_preprocess"] == "decode|resize_small|central_crop"


def test_published_files_are_resized_straight_to_size(tmp_path):
    found = preprocessing(tmp_path, PUBLISHED)
    assert [step["step"] for step in found["steps"]] == ["decode", "resize", "scale"]
    assert found["logits_to_probabilities"] == "softmax"


def test_an_operation_that_has_no_description_is_quoted(tmp_path):
    metadata = Metadata(MODEL, (), {"data": {"eval_preprocess": "decode | random_crop(pad=2)"}})
    step = preprocessing(tmp_path, metadata)["steps"][1]
    assert step == {"step": "random_crop(pad=2)", "defined_in": "vit_jax.data.ops"}


def follow(steps, image):
    """The steps in words of this test: an RGB array (h, w, 3) -> float32, without TensorFlow."""
    for step in steps:
        kind, (height, width) = step["step"], image.shape[:2]
        if kind == "decode" and step["to"] == "gray":
            image = np.round(image @ np.array(step["weights_of_red_green_blue"], np.float32))[..., None]
        elif kind in ("resize", "resize_keeping_aspect_ratio"):
            assert (step["filter"], step["antialias"], step["rounded_to"]) == ("bilinear", True, "uint8")
            if kind == "resize":
                size = (step["height"], step["width"])
            else:
                scale = step["shorter_side"] / min(height, width)
                size = (round(height * scale), round(width * scale))
            resized = jax.image.resize(image.astype(np.float32), (*size, image.shape[2]), "linear", antialias=True)
            image = np.round(np.clip(resized, 0, 255))
        elif kind == "central_crop":
            top, left = (height - step["height"]) // 2, (width - step["width"]) // 2
            image = image[top : top + step["height"], left : left + step["width"]]
        elif kind == "scale":
            image = image * step["multiply"] + step["add"]
        else:
            assert kind == "decode", kind
    return image


@pytest.mark.needs_tf
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "text", ["decode|resize", "decode|resize_small|central_crop", "decode|resize_small(ratio=1.5)|central_crop"]
)
def test_following_the_steps_gives_what_evaluation_sees(tmp_path, text, channels):
    """Against the pipeline itself, on a picture of odd sizes; one level of 255 for the order of roundings."""
    tf = pytest.importorskip("tensorflow")
    from vit_jax.data import DataSettings, decode_files

    size = (24, 16)
    settings = DataSettings(image_size=size, channels=channels, eval_preprocess=text)
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (8, 11, 3)).repeat(7, 0).repeat(5, 1).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(picture).numpy())
    metadata = Metadata(Model(ModelSettings("mu/4"), size, channels, 3), (), {"data": {"eval_preprocess": text}})

    found = follow(preprocessing(tmp_path, metadata)["steps"], picture)
    wanted = decode_files([str(tmp_path / "a.png")], settings)[0].astype(np.float32) / 127.5 - 1
    assert found.shape == (*size, channels)
    assert np.abs(found - wanted).max() < 1.01 / 127.5
    assert wanted.std() > 0.1
