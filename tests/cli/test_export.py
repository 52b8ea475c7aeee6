"""`vit_jax export` in every format, and the verbs on files that others published."""

import json

import numpy as np
import pytest

from vit_jax.checkpoint import load

FOLDERS = {
    "npz": {"model.npz", "model.json"},
    "timm": {"model.safetensors", "config.json"},
    "huggingface": {"model.safetensors", "config.json", "preprocessor_config.json"},
    "stablehlo": {"model.stablehlo"},
}
TEXTS = {"README.md", "preprocessing.json"}


@pytest.fixture(scope="module")
def token_model(tmp_path_factory):
    """A released npz of a small ViT with a class token, as others publish it: arrays alone."""
    import jax

    from vit_jax.checkpoint import Metadata, export_npz
    from vit_jax.models import Model, ModelSettings

    model = Model(ModelSettings("Ti/4", depth=2), (8, 8), 3, 10)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype(np.float32), model.abstract_params)
    path = tmp_path_factory.mktemp("published") / "ViT.npz"
    export_npz(params, Metadata(model, tuple("0123456789"), {}), path)
    path.with_suffix(".json").unlink()
    return path


@pytest.mark.parametrize("form", FOLDERS)
def test_a_published_file_is_written_in_each_format(form, call, token_model, tmp_path):
    status, out, err = call("export", f"--checkpoint={token_model}", f"--format={form}", f"--output={tmp_path / 'new'}")
    assert (status, out.split()) == (0, [str(tmp_path / "new" / name) for name in sorted(FOLDERS[form] | TEXTS)])
    assert "released npz: Ti/4 (depth=2, pool=token), 8x8 px, 10 classes" in err
    if form != "stablehlo":
        ours, back = load(token_model), load(tmp_path / "new")
        np.testing.assert_allclose(back.params["head"]["kernel"], ours.params["head"]["kernel"], atol=1e-7)
        query = [w.params["blocks"]["attn"]["query"]["kernel"] for w in (ours, back)]
        np.testing.assert_array_equal(*query)


def test_a_folder_with_something_in_it_is_left_alone(call, token_model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    status, _, err = call("export", f"--checkpoint={token_model}", "--format=timm", f"--output={tmp_path}")
    assert (status, [file.name for file in tmp_path.iterdir()]) == (2, ["mine.txt"])
    assert "is not empty" in err


def test_another_image_size_is_exported(call, token_model, tmp_path):
    status, _, err = call(
        "export", f"--checkpoint={token_model}", "--image_size=12,16", "--format=npz", f"--output={tmp_path / 'new'}"
    )
    assert status == 0
    assert "resized   pos_embedding (2x2 to 3x4, bilinear)" in err
    about = json.loads((tmp_path / "new" / "preprocessing.json").read_text())
    assert about["image_size"] == {"height": 12, "width": 16}
    assert load(tmp_path / "new").params["pos_embedding"].shape == (1, 13, 192)


@pytest.mark.needs_tf
def test_a_published_file_is_evaluated_on_data_that_is_named(call, token_model, digits_dir):
    flags = [f"--checkpoint={token_model}", f"--config.data.data_dir={digits_dir}", "--json"]
    status, out, err = call("evaluate", *flags, "--split=test", "--batch_size=40", "--ignore_label_names")
    assert status == 0, err
    assert json.loads(out)["examples"] == 360


@pytest.mark.slow
@pytest.mark.needs_tf
def test_a_saved_model_is_written(call, trained, tmp_path):
    status, out, _ = call("export", f"--checkpoint={trained}", "--format=savedmodel", f"--output={tmp_path / 'new'}")
    assert status == 0
    assert str(tmp_path / "new" / "saved_model.pb") in out.split()
