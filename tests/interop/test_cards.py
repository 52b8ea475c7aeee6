"""The lines that the model cards of PyTorch folders show give our logits. `make interop`."""

import re

import numpy as np
import pytest

from tests.snippets import snippet
from vit_jax.checkpoint.folders import export_huggingface, export_timm

pytest.importorskip("timm")
pytest.importorskip("transformers")

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("export", [export_timm, export_huggingface])
def test_the_card_loads_the_model(export, tmp_path, monkeypatch, make_model, random_params, describe, images, ours):
    model = make_model("Ti/16", (32, 48))
    params, pixels = random_params(model), images(model)
    export(params, describe(model), tmp_path / "folder")
    monkeypatch.chdir(tmp_path / "folder")
    code, replaced = re.subn(r"(?m)^images = .*$", "images = given", snippet(tmp_path / "folder"))
    assert replaced == 1
    names = {"given": np.asarray(pixels, np.float32)}
    exec(code, names)
    np.testing.assert_allclose(np.asarray(names["logits"]), ours(model, params, pixels), rtol=1e-4, atol=1e-5)
