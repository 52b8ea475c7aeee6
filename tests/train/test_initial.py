"""Starting from weights: of another run, of a published file, of another shape."""

import dataclasses

import jax
import numpy as np
import pytest

from vit_jax.checkpoint import Metadata, export_npz, load
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import Model, ModelSettings
from vit_jax.train import preflight, train
from vit_jax.train.loop import _first_state
from vit_jax.train.progress import Reporter
from vit_jax.trees import named_leaves


@pytest.fixture
def published(tmp_path):
    """A released npz of `mu/2` at 12 x 12 px with 4 classes, arrays alone."""
    model = Model(ModelSettings("mu/2"), (12, 12), 3, 4)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype(np.float32), model.abstract_params)
    path = tmp_path / "ViT.npz"
    export_npz(params, Metadata(model, tuple("abcd"), {}), path)
    path.with_suffix(".json").unlink()
    return path


def first_state(settings):
    plan = preflight(settings)
    lines = []
    reporter = Reporter(False)
    reporter.say = lines.append
    return plan, _first_state(plan, reporter), lines


def test_a_run_starts_from_a_published_file(tiny_run, published):
    settings = tiny_run(init={"checkpoint": str(published)}, train={"ema_decay": 0.9}, mesh={"fsdp": 2, "tensor": 2})
    plan, state, lines = first_state(settings)
    source = load(published, image_size=(8, 8))
    wanted = named_leaves(source.params)
    for name, leaf in named_leaves(jax.device_get(state["params"])).items():
        expected = np.zeros(leaf.shape) if name.startswith("head/") else wanted[name]
        np.testing.assert_array_equal(leaf, expected, err_msg=name)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state["ema"]), jax.device_get(state["params"]))
    for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(plan.state), strict=True):
        assert (found.shape, found.dtype, found.sharding) == (expected.shape, expected.dtype, expected.sharding)
    said = "\n".join(lines)
    assert "reset     head/bias, head/kernel" in said or "reset     head/kernel, head/bias" in said
    assert "pos_embedding (6x6 to 4x4, bilinear)" in said


def test_a_run_starts_from_another_run_and_keeps_its_head(tiny_run, tmp_path):
    train(tiny_run(), tmp_path / "first")
    settings = tiny_run(init={"checkpoint": str(tmp_path / "first"), "head": "keep"})
    _, state, _ = first_state(settings)
    trained = load(tmp_path / "first").params
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state["params"]), trained)


def test_a_resumed_run_does_not_need_what_it_started_from(tiny_run, published, tmp_path):
    settings = tiny_run(init={"checkpoint": str(published)})
    half = dataclasses.replace(settings, train=dataclasses.replace(settings.train, duration="3 steps"))
    train(half, tmp_path / "w")
    published.unlink()
    assert train(settings, tmp_path / "w", accept_config_change=True).step == 6


@pytest.mark.parametrize(
    ("init", "model", "message"),
    [
        ({"checkpoint": "/no/such"}, {}, r"config\.init\.checkpoint = '/no/such': .*does not exist"),
        ({"head": "keep"}, {}, r"config\.init\.head = 'keep': the file's has 4 classes and the model 10"),
        ({}, {"width": 64}, r"config\.init\.checkpoint = .*the weights do not fit the model: shapes differ"),
        ({}, {"variant": "R26x1"}, r"config\.init\.checkpoint = .*the weights do not fit the model: they lack"),
    ],
)
def test_what_does_not_fit_is_named(tiny_run, published, init, model, message):
    settings = tiny_run(init={"checkpoint": str(published), **init}, model={"variant": "mu/2", **model})
    with pytest.raises((BadSetting, UserError), match=message):
        preflight(settings).initial()
