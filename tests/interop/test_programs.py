"""Our ONNX files, checked by onnx and run by onnxruntime without vit_jax. `make interop`."""

import warnings

import jax
import numpy as np
import pytest

from tests import snippets
from vit_jax.checkpoint import Metadata
from vit_jax.checkpoint.programs import export_onnx
from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("jax2onnx")

pytestmark = pytest.mark.interop

MODELS = {
    "token": (ModelSettings("mu/4", depth=2), (8, 12), 3),
    "gap": (ModelSettings("mu/4", pool="gap", pre_logits=True), (8, 8), 1),
    "map": (ModelSettings("mu/4", pool="map", registers=2, layer_scale=0.1), (8, 8), 3),
    "parallel": (ModelSettings("mu/4", depth=2, parallel=True, qk_norm=True, qkv_bias=False, norm="rms"), (8, 8), 3),
    "hybrid": (ModelSettings("R26+Ti/16", trunk_units=(1, 2), width=64, depth=2, heads=2), (48, 40), 3),
    "hybrid without stages": (ModelSettings("R+Ti/16", width=64, depth=1, heads=2), (32, 32), 3),
    "BiT": (ModelSettings("R50x1", trunk_units=(3, 1)), (37, 30), 3),
    "ResNet version 1": (ModelSettings("R50x1", trunk_units=(1, 2), trunk_version=1), (37, 30), 3),
    "weights beside": (ModelSettings("Ti/16", depth=3), (32, 32), 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_gives_our_logits_at_any_batch(tmp_path, name, random_params, record_property):
    model = Model(*MODELS[name], 5)
    random = np.random.default_rng(0)
    params = random_params(model)
    files = export_onnx(params, Metadata(model, (), {}), tmp_path / "out")
    assert {file.name for file in files} - {"model.onnx.data"} == {"model.onnx", "README.md", "preprocessing.json"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of protobuf's, inside onnx
        onnx.checker.check_model(tmp_path / "out" / "model.onnx")
    batches = [random.uniform(-1, 1, (number, *model.image_size, model.channels)) for number in (1, 3)]
    batches = [images.astype(np.float32) for images in batches]
    for images, found in zip(batches, snippets.run(tmp_path / "out", batches, tmp_path, ("jax",)), strict=True):
        wanted = np.asarray(jax.jit(model.apply)(params, images)["logits"])
        assert found.shape == wanted.shape
        difference = np.abs(found - wanted).max() / np.abs(wanted).max()
        print(f"{name}: relative difference {difference:.1e}")
        record_property("relative_difference", float(difference))
        assert difference < 1e-5
    assert np.abs(wanted[1:] - wanted[0]).max() > 1e-3 * np.abs(wanted).max()  # images matter


def test_the_graph_has_a_free_batch_and_the_opset_that_is_promised(tmp_path, random_params):
    model = Model(ModelSettings("mu/4"), (8, 12), 3, 5)
    export_onnx(random_params(model), Metadata(model, (), {}), tmp_path / "out")
    found = onnx.load(tmp_path / "out" / "model.onnx")

    def shape(value):
        return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]

    assert [(value.name, shape(value)) for value in found.graph.input] == [("images", ["b", 8, 12, 3])]
    assert [(value.name, shape(value)) for value in found.graph.output] == [("logits", ["b", 5])]
    assert [(opset.domain, opset.version) for opset in found.opset_import] == [("", 21)]


def test_a_program_that_gives_other_logits_is_refused(tmp_path, random_params, monkeypatch):
    """The converter that silently converts wrongly: the reason why exports run what they wrote."""
    import jax2onnx

    to_onnx = jax2onnx.to_onnx
    monkeypatch.setattr(jax2onnx, "to_onnx", lambda f, **k: to_onnx(lambda images: f(images) * 1.01, **k))
    model = Model(ModelSettings("mu/4"), (8, 8), 3, 5)
    with pytest.raises(UserError, match=r"differ by \d\.\de-0[123] "):
        export_onnx(random_params(model), Metadata(model, (), {}), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_converted_is_said_in_one_line(tmp_path, monkeypatch):
    import jax2onnx

    def cannot(*args, **options):
        raise NotImplementedError("no plugin for\nprimitive 'erf_inv'")

    monkeypatch.setattr(jax2onnx, "to_onnx", cannot)
    model = Model(ModelSettings("mu/4"), (8, 8), 3, 5)
    with pytest.raises(UserError, match=r"mu/4 cannot become ONNX \(NotImplementedError: no plugin for primitive"):
        export_onnx(model.init(jax.random.key(0)), Metadata(model, (), {}), tmp_path / "out")
    assert not list(tmp_path.iterdir())
