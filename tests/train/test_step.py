"""The compiled step: the same numbers on every mesh, with and without accumulation, compiled once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import parallel
from vit_jax.models import unconstrained
from vit_jax.models.resnet import standardized
from vit_jax.train import create_state, make_train_step, preflight, supervised
from vit_jax.train.state import DROPOUT_STREAM, INIT_STREAM, stream_key
from vit_jax.trees import named_leaves

MESHES = {
    "one device": None,
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "tensor": {"data": 4, "tensor": 2},
    "mixed": {"replica": 2, "data": 1, "fsdp": 2, "tensor": 2},
}


def _plan(tiny_run, **groups):
    return preflight(tiny_run(**{"model": {"variant": "mu/2", "depth": 2, "dropout": 0.1}, **groups}))


def _step(plan, mesh=None, **changes):
    train = plan.settings.train
    options = {"seed": 0, "micro_batches": train.micro_batches, "ema_decay": train.ema_decay, **changes}
    objective = supervised(plan.model, train.loss, train.label_smoothing)
    return make_train_step(
        objective, plan.optimizer, plan.schedule, plan.state, mesh or plan.mesh, plan.multipliers, **options
    )


def _batches(plan, number):
    size = plan.settings.train.batch_size
    rows = parallel.host_rows(plan.mesh, size)
    return list(parallel.feed(plan.mesh, size, rows, plan.train_data.train_batches(0, size, rows, 0, number)))


def _train(plan, number=5):
    """(losses, final state, step)."""
    state, step, losses = create_state(plan.model, plan.optimizer, plan.state, 0), _step(plan), []
    for batch in _batches(plan, number):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return losses, state, step


def _randomise_head(state):
    """A head of zeros, as initialised, gives every input the same loss."""
    kernel = state["params"]["head"]["kernel"]
    state["params"]["head"]["kernel"] = kernel + jax.random.normal(jax.random.key(7), kernel.shape)


def _on(monkeypatch, mesh):
    """Makes the job see one device only, when no mesh is asked for."""
    if mesh is None:
        monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    return mesh or {}


@pytest.fixture(scope="module")
def reference():
    return {}


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_every_mesh_gives_the_same_losses_and_compiles_once(mesh, tiny_run, monkeypatch, reference):
    settings = _on(monkeypatch, MESHES[mesh])
    losses, state, step = _train(_plan(tiny_run, mesh=settings, train={"batch_size": 32, "ema_decay": 0.9}))
    found = reference.setdefault("losses", losses)
    assert losses[0] == pytest.approx(np.log(10))
    assert losses[-1] != losses[0]
    np.testing.assert_allclose(losses, found, rtol=1e-5)
    weights = np.asarray(state["params"]["blocks"]["mlp"]["dense1"]["kernel"])
    np.testing.assert_allclose(weights, reference.setdefault("weights", weights), atol=2e-4)
    assert step._cache_size() == 1


def test_accumulated_gradients_equal_those_of_the_whole_batch(tiny_run):
    whole = _train(_plan(tiny_run, model={"dropout": 0.0}, train={"batch_size": 32}))
    parts = _train(_plan(tiny_run, model={"dropout": 0.0}, train={"batch_size": 32, "micro_batches": 4}))
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-5)


@pytest.mark.parametrize("variant", [pytest.param("R26+mu/16", marks=pytest.mark.long), "R26x1"])
def test_kernels_are_standardised_once_a_step_of_several_micro_batches(variant, tiny_run, monkeypatch):
    made = []

    def counted(kernel, version):
        made.append(kernel.shape)
        return standardized(kernel, version)

    monkeypatch.setattr("vit_jax.models.model.standardized", counted)
    monkeypatch.setattr("vit_jax.models.resnet.standardized", counted)
    model = {"variant": variant, "trunk_units": (2, 1), "trunk_width": 1}
    groups = {"model": model, "data": {"image_size": (32, 32)}, "mesh": _on(monkeypatch, None)}
    whole = _train(_plan(tiny_run, **groups), 2)
    made.clear()
    plan = _plan(tiny_run, **groups, train={"micro_batches": 4})
    state, step = create_state(plan.model, plan.optimizer, plan.state, 0), plan.train_step()
    losses = []
    for batch in _batches(plan, 2):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    kernels = [shape for name, shape in plan.model.shapes.items() if re.search("trunk/.*kernel", name)]
    assert sorted(made) == sorted(kernels)
    np.testing.assert_allclose(losses, whole[0], rtol=2e-5)


def test_each_micro_batch_has_its_own_dropout_mask(tiny_run):
    """Two equal micro-batches: with one shared mask the accumulated loss would be that of one of them."""
    plan = _plan(tiny_run, model={"dropout": 0.5}, train={"batch_size": 16, "micro_batches": 2})
    state = create_state(plan.model, plan.optimizer, plan.state, 0)
    _randomise_head(state)
    # Micro-batch m holds rows m, m + 2, ...: both get the same images.
    batch = jax.tree.map(lambda x: jnp.repeat(x[:8], 2, axis=0), _batches(plan, 1)[0])
    batch = jax.device_put(batch, parallel.batch_sharding(plan.mesh))
    objective = supervised(plan.model, "softmax", 0.0)
    step_key = jax.random.fold_in(stream_key(0, DROPOUT_STREAM), 0)
    keys = jax.random.split(step_key, 2)
    part = {name: value[::2] for name, value in batch.items()}
    separate = [float(objective(state["params"], part, key, unconstrained)[0]) for key in keys]
    assert abs(separate[0] - separate[1]) > 1e-3
    _, metrics = _step(plan)(state, batch)
    assert float(metrics["loss"]) == pytest.approx(np.mean(separate), rel=1e-4)


def test_dropout_depends_on_the_step(tiny_run):
    plan = _plan(tiny_run, schedule={"learning_rate": 0.0}, model={"dropout": 0.5})
    state, step, batch = create_state(plan.model, plan.optimizer, plan.state, 0), _step(plan), _batches(plan, 1)[0]
    _randomise_head(state)
    losses = []
    for _ in range(3):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert len(set(losses)) == 3


def test_average_follows_its_formula(tiny_run):
    plan = _plan(tiny_run, train={"ema_decay": 0.9})
    state, step = create_state(plan.model, plan.optimizer, plan.state, 0), _step(plan)
    average = np.asarray(state["params"]["pos_embedding"])
    for batch in _batches(plan, 4):
        state, _ = step(state, batch)
        average = 0.9 * average + 0.1 * np.asarray(state["params"]["pos_embedding"])
    np.testing.assert_allclose(state["ema"]["pos_embedding"], average, rtol=1e-5, atol=1e-7)
    assert not np.allclose(average, state["params"]["pos_embedding"])


def test_old_state_is_donated(tiny_run):
    plan = _plan(tiny_run)
    state = create_state(plan.model, plan.optimizer, plan.state, 0)
    _step(plan)(state, _batches(plan, 1)[0])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_everything_is_float32_under_bfloat16_compute(tiny_run):
    plan = _plan(tiny_run, model={"dtype": "bfloat16"}, train={"ema_decay": 0.9, "micro_batches": 2})
    state, metrics = _step(plan)(create_state(plan.model, plan.optimizer, plan.state, 0), _batches(plan, 1)[0])
    named = named_leaves({"state": state, "metrics": metrics})
    wrong = {name: leaf.dtype for name, leaf in named.items() if leaf.dtype != jnp.float32}
    assert {name: str(dtype) for name, dtype in wrong.items()} == {
        "state/step": "int32",
        "state/opt/adam/count": "int32",
    }
    assert np.isfinite(float(metrics["loss"]))


def test_metrics_describe_the_step(tiny_run):
    plan = _plan(tiny_run)
    state = create_state(plan.model, plan.optimizer, plan.state, 0)
    step = _step(plan)
    for number, batch in enumerate(_batches(plan, 3)):
        state, metrics = step(state, batch)
        assert set(metrics) == {"loss", "accuracy", "learning_rate", "gradient_norm", "update_norm"}
        assert float(metrics["learning_rate"]) == pytest.approx(float(plan.schedule(number)))
        assert int(state["step"]) == number + 1


def test_dropout_never_reuses_a_key_of_the_initialisation():
    init, dropout = stream_key(0, INIT_STREAM), stream_key(0, DROPOUT_STREAM)
    keys = {
        bytes(np.asarray(jax.random.key_data(jax.random.fold_in(key, i)))) for key in (init, dropout) for i in range(50)
    }
    assert len(keys) == 100
