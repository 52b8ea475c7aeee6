"""Exported programs: what was written gives the model's logits without vit_jax, or nothing is written."""

import dataclasses
import errno
import importlib.util
import re
import sys

import jax
import numpy as np
import pytest
from jax import export

from tests import snippets
from vit_jax.checkpoint import Metadata
from vit_jax.checkpoint.programs import export_onnx, export_saved_model, export_stablehlo
from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings

CONFIG = {"train": {"loss": "sigmoid"}, "data": {"eval_preprocess": "decode|resize"}}
SETTINGS = ModelSettings("mu/4", depth=2)
LABELS = ("cat", "dog", "eel")


def make(settings: ModelSettings = SETTINGS, size: tuple[int, int] = (8, 12), channels: int = 3):
    """Random parameters and metadata of a model with three classes."""
    model = Model(settings, size, channels, len(LABELS))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32), model.abstract_params)
    return params, Metadata(model, LABELS, CONFIG, 7)


def pictures(metadata: Metadata, number: int) -> np.ndarray:
    shape = (number, *metadata.model.image_size, metadata.model.channels)
    return np.random.default_rng(number).uniform(-1, 1, shape).astype(np.float32)


def assert_logits(found: np.ndarray, params, metadata: Metadata, images: np.ndarray, share: float = 1e-5) -> None:
    wanted = np.asarray(jax.jit(metadata.model.apply)(params, images)["logits"])
    assert np.abs(wanted - wanted[0]).max() > 1000 * share * np.abs(wanted).max() or len(images) == 1  # images matter
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=share * np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize("inside", [True, False])
def test_stablehlo_runs_in_a_process_with_jax_flatbuffers_and_numpy_only(tmp_path, inside):
    params, metadata = make()
    files = export_stablehlo(params, metadata, tmp_path / "out", weights_inside=inside)
    assert {file.name for file in files} == {"model.stablehlo", "README.md", "preprocessing.json"} | (
        set() if inside else {"weights.npz"}
    )
    batches = [pictures(metadata, number) for number in (1, 3)]
    hidden = ("flax", "optax", "orbax", "ml_collections", "tensorflow")
    found = snippets.run(tmp_path / "out", batches, tmp_path, hidden)
    for images, logits in zip(batches, found, strict=True):
        assert_logits(logits, params, metadata, images)


@pytest.mark.slow
@pytest.mark.needs_tf
def test_a_saved_model_runs_in_a_process_with_tensorflow_only(tmp_path):
    pytest.importorskip("tensorflow")
    params, metadata = make()
    export_saved_model(params, metadata, tmp_path / "out" / "1")
    assert (tmp_path / "out" / "1" / "assets" / "labels.txt").read_text().split() == list(LABELS)
    batches = [pictures(metadata, number) for number in (1, 3)]
    found = snippets.run(tmp_path / "out" / "1", batches, tmp_path, ("jax", "flax"))
    for images, logits in zip(batches, found, strict=True):
        assert_logits(logits, params, metadata, images)


def test_stablehlo_is_lowered_for_cpu_cuda_and_tpu_at_any_batch_without_gradient(tmp_path):
    params, metadata = make()
    export_stablehlo(params, metadata, tmp_path / "out")
    found = export.deserialize(bytearray((tmp_path / "out" / "model.stablehlo").read_bytes()))
    assert found.platforms == ("cpu", "cuda", "tpu")
    assert [str(aval) for aval in (*found.in_avals, *found.out_avals)] == ["float32[b,8,12,3]", "float32[b,3]"]
    assert not found.has_vjp()


@pytest.mark.parametrize(
    ("settings", "size", "channels"),
    [
        (ModelSettings("mu/4", pool="gap", pre_logits=True), (8, 8), 1),
        (ModelSettings("R26+Ti/16", trunk_units=(1,), patch=4, width=32, depth=1, mlp_dim=32, heads=2), (16, 32), 3),
        (ModelSettings("R50x1", trunk_units=(2,)), (13, 10), 3),
    ],
    ids=["ViT", "hybrid", "BiT"],
)
def test_stablehlo_of_every_family_gives_the_logits_in_float32_whatever_the_dtype(tmp_path, settings, size, channels):
    params, metadata = make(settings, size, channels)
    _, in_bfloat16 = make(dataclasses.replace(settings, dtype="bfloat16"), size, channels)
    export_stablehlo(params, in_bfloat16, tmp_path / "out")
    found = export.deserialize(bytearray((tmp_path / "out" / "model.stablehlo").read_bytes()))
    images = pictures(metadata, 3)
    assert_logits(np.asarray(found.call(images)), params, metadata, images)
    assert "bf16" not in found.mlir_module()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(UserError, match="is not empty: remove it or name another"):
        export_stablehlo(*make(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_an_empty_folder_and_one_that_is_not_there_are_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "a/b"):
        files = export_stablehlo(*make(), tmp_path / name)
        assert {file.parent for file in files} == {tmp_path / name}
        assert all(file.stat().st_size for file in files)
    assert {file.name for file in tmp_path.iterdir()} == {"empty", "a"}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match=r"out' is a file"):
        export_stablehlo(*make(), tmp_path / "out")
    with pytest.raises(UserError, match=r"out/below' cannot be written: Not a directory"):
        export_stablehlo(*make(), tmp_path / "out" / "below")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def disk_full(file, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        export_stablehlo(*make(), tmp_path / "out", weights_inside=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("factor", "figure"), [(1.001, r"1\.\de-03"), (np.nan, "nan")])
def test_a_program_that_gives_other_logits_is_refused_and_removed(tmp_path, monkeypatch, factor, figure):
    """The weights are changed between the model and the file: the head alone, so that logits grow by the factor."""
    savez = np.savez

    def spoiled(file, allow_pickle, **arrays):
        savez(file, **{name: a * factor if name.startswith("head/") else a for name, a in arrays.items()})

    monkeypatch.setattr(np, "savez", spoiled)
    with pytest.raises(UserError, match=rf"differ by {figure} \(relative; at most 1e-04 is accepted\)"):
        export_stablehlo(*make(), tmp_path / "out", weights_inside=False)
    assert not list(tmp_path.iterdir())


def test_a_difference_below_the_limit_is_accepted(tmp_path, monkeypatch):
    savez = np.savez

    def slightly(file, allow_pickle, **arrays):
        savez(file, **{name: a * 1.00005 if name.startswith("head/") else a for name, a in arrays.items()})

    monkeypatch.setattr(np, "savez", slightly)
    export_stablehlo(*make(), tmp_path / "out", weights_inside=False)
    assert (tmp_path / "out" / "weights.npz").exists()


@pytest.mark.parametrize("exporter", [export_stablehlo, export_onnx])
def test_a_model_without_classifier_is_refused(tmp_path, exporter, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())  # onnx may be missing here
    headless = Metadata(Model(SETTINGS, (8, 8), 3, 0), (), {})
    with pytest.raises(UserError, match=r"mu/4 has no classifier \(classes = 0\)"):
        exporter(headless.model.abstract_params, headless, tmp_path / "out")


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="StableHLO export needs flatbuffers: pip install flatbuffers"):
        export_stablehlo(*make(), tmp_path / "out")
    lines = "pip install onnx onnx-ir onnxruntime && pip install --no-deps jax2onnx"
    with pytest.raises(UserError, match=re.escape(f"lacks jax2onnx, onnx, onnx-ir, onnxruntime: {lines}")):
        export_onnx(*make(), tmp_path / "out")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match="SavedModel export needs TensorFlow, which cannot be imported"):
        export_saved_model(*make(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_jax_without_a_cpu_is_told_to_have_one(tmp_path, monkeypatch):
    def unknown(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", unknown)
    with pytest.raises(UserError, match="add cpu to JAX_PLATFORMS"):
        export_stablehlo(*make(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_weights_that_do_not_fit_into_the_file_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("vit_jax.checkpoint.programs.stablehlo.INSIDE_BYTES", 1000)
    with pytest.raises(UserError, match=r"weights_inside = True: 0\.0 GB of weights do not fit"):
        export_stablehlo(*make(), tmp_path / "out", weights_inside=True)
    files = export_stablehlo(*make(), tmp_path / "out")
    assert tmp_path / "out" / "weights.npz" in files
