"""The mesh that a config leaves open."""

import dataclasses

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax import parallel
from vit_jax.models import Model, ModelSettings
from vit_jax.parallel import CHIPS, MeshSettings, automatic
from vit_jax.train import DataFacts, RunSettings, make_program, preflight
from vit_jax.train.optimizer import make_optimizer
from vit_jax.train.program import bytes_by_mesh
from vit_jax.train.settings import OptimizerSettings
from vit_jax.train.state import state_shapes


def halves(size):
    """A state that fsdp splits evenly."""
    return lambda mesh: size / mesh.shape["fsdp"]


@given(st.integers(1, 2**40), st.integers(1, 2**36), st.sampled_from([1, 2, 3, 6, 8, 12, 64, 96, 256, 1024]))
def test_it_is_the_least_that_leaves_two_thirds_of_the_memory(size, memory, devices):
    found = parallel.automatic_fsdp(MeshSettings(), devices, 1, memory, halves(size))
    possible = [n for n in range(1, min(devices, 64) + 1) if devices % n == 0]
    fitting = [n for n in possible if size / n <= automatic.STATE_SHARE * memory]
    assert found == (fitting[0] if fitting else possible[-1])
    assert pytest.approx(1 / 3) == automatic.STATE_SHARE


def test_parts_that_split_nothing_are_not_taken():
    """A width that 4 and 8 do not divide: 2 saves as much."""

    def state(mesh):
        return 100 if mesh.shape["fsdp"] == 1 else 60

    assert parallel.automatic_fsdp(MeshSettings(), 8, 1, 90, state) == 2


def test_slices_and_tensor_are_left_out_of_what_is_shared():
    seen = []

    def state(mesh):
        seen.append(dict(mesh.shape))
        return 1000

    parallel.automatic_fsdp(MeshSettings(tensor=2), 32, 2, 1, state)
    assert [mesh["fsdp"] for mesh in seen] == [1, 2, 4, 8]
    assert all((mesh["replica"], mesh["tensor"], mesh["data"] * mesh["fsdp"]) == (2, 2, 8) for mesh in seen)


def sizes(mesh):
    return tuple(mesh.shape[axis] for axis in ("replica", "data", "fsdp", "tensor"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (1, 8, 1, 1)),
        ({"tensor": 2}, (1, 4, 1, 2)),
        ({"data": 2}, (1, 2, 4, 1)),
        ({"data": 4, "tensor": 2}, (1, 4, 1, 2)),
        ({"replica": 2, "data": 1, "tensor": 2}, (2, 1, 2, 2)),
        ({"data": 1, "tensor": -1}, (1, 1, 1, 8)),
        ({"data": 1, "fsdp": -1}, (1, 1, 8, 1)),
    ],
)
def test_devices_of_unknown_memory_stay_pure_data_parallel(settings, expected):
    assert sizes(parallel.automatic_mesh(MeshSettings(**settings), lambda mesh: 2**60)) == expected


def small_chip(monkeypatch, memory):
    """Makes the fake devices chips of so much memory."""
    chip = dataclasses.replace(CHIPS["v5e"], memory=memory)
    monkeypatch.setattr(automatic, "chip_of", lambda kind: chip)


def test_a_run_splits_its_state_where_the_devices_are_small(tiny_run, monkeypatch):
    """nano/2: 4 bytes x (parameters, gradients, two moments)."""
    run = tiny_run(model={"variant": "nano/2"})
    assert sizes(preflight(run).mesh) == (1, 8, 1, 1)
    parameters = preflight(run).model.parameter_count
    small_chip(monkeypatch, 3 * 16 * parameters * 0.4)
    plan = preflight(run)
    assert sizes(plan.mesh) == (1, 2, 4, 1)
    assert "data 2 x fsdp 4" in plan.describe()[0]
    assert any(line.startswith("mesh      fsdp 4 was chosen") for line in plan.describe())
    assert sizes(preflight(tiny_run(model={"variant": "nano/2"}, mesh={"fsdp": 1})).mesh) == (1, 8, 1, 1)


@pytest.mark.parametrize(
    ("variant", "chip", "expected"),
    [
        ("B/16", "v5e", 1),
        ("L/16", "v5e", 1),
        ("H/14", "v5e", 2),
        ("g/14", "v5e", 4),
        ("G/14", "v5e", 8),
        ("22B/14", "v5p", 16),
        ("L/16", "v3", 1),
        ("L/16", "h100", 1),
        ("G/14", "h100", 2),
    ],
)
def test_what_it_chooses_for_models_with_adam(variant, chip, expected):
    """Small models on large chips are copied; the rest is split no more than needed."""
    model = Model(ModelSettings(variant), (224, 224), 3, 1000)
    optimizer = make_optimizer(OptimizerSettings(), list(model.shapes))
    state = bytes_by_mesh(state_shapes(model, optimizer, False), model)
    memory = CHIPS[chip].device_memory
    assert parallel.automatic_fsdp(MeshSettings(), 256, 1, memory, state) == expected
    exact = 16 * model.parameter_count
    assert state(parallel.abstract_mesh((1, 1, 1, 1))) == pytest.approx(exact, rel=1e-4)


def test_the_number_of_slices_is_the_outermost_axis():
    assert MeshSettings().sizes(64, slices=2) == (2, 32, 1, 1)
    assert MeshSettings(replica=4).sizes(64, slices=2) == (4, 16, 1, 1)


def test_described_devices_do(tiny_run):
    """Any devices, in any number, without touching the data."""
    program = make_program(tiny_run(), DataFacts(1000, 7), jax.devices()[:2])
    assert sizes(program.mesh) == (1, 2, 1, 1)
    assert isinstance(program.settings, RunSettings)
    assert program.batch()["label"].shape == (16,)
    several = make_program(tiny_run(train={"loss": "sigmoid"}), DataFacts(1000, 7, multi_label=True))
    assert several.batch()["label"].shape == (16, 7)
