"""Images a second by a clock of the test's own, and the largest batch by a memory of its own."""

import itertools

import jax
import pytest

from vit_jax import parallel
from vit_jax.data import DataSettings
from vit_jax.evaluate import EvaluatorSettings, Subject, make_evaluator
from vit_jax.evaluate.speed import REPEATS, Speed
from vit_jax.models import Model, ModelSettings
from vit_jax.parallel import MeshSettings, make_mesh, program_bytes


@pytest.fixture(scope="module")
def model():
    return Model(ModelSettings("mu/4"), (8, 8), 3, 10)


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def mesh(devices=1):
    return make_mesh(MeshSettings(), jax.devices()[:devices])


class Clock:
    """Says how long each batch took: 1 s, and from the batch of 8 on as many seconds as an eighth of the batch."""

    def __init__(self):
        sizes = itertools.chain.from_iterable([2**i] * REPEATS for i in range(20))
        self._steps = itertools.chain.from_iterable((0.0, max(1.0, size / 8)) for size in sizes)
        self._now = 0.0

    def __call__(self):
        self._now += next(self._steps)
        return self._now


def test_the_best_rate_counts_and_larger_batches_are_given_up_when_they_bring_nothing(model, params):
    found = Speed(model, mesh(), 4096, clock=Clock()).run(params)
    # 1, 2, 4, 8 images in a second, then 16 in two and 32 in four: twice nothing gained.
    assert (found["images_per_second"], found["batch"]) == (8, 8)
    assert found["examples"] == (REPEATS + 1) * (1 + 2 + 4 + 8 + 16 + 32)
    assert "largest" not in found


def test_no_batch_above_the_limit_is_tried(model, params):
    found = Speed(model, mesh(), 4, clock=Clock()).run(params)
    assert (found["images_per_second"], found["batch"]) == (4, 4)


def test_the_largest_batch_is_the_last_whose_program_fits(model, params, monkeypatch):
    """The memory is that of the program for 64 images: half as many fit, twice as many do not."""
    speed = Speed(model, mesh(), 4096, clock=Clock())
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    needed = program_bytes(speed._compile(params, 64))
    monkeypatch.setattr(parallel, "device_bytes", lambda mesh: needed - held)
    found = speed.run(params)
    assert found["largest"] == 64
    assert speed.describe(found) == "8.0 images/s in batches of 8; the largest that fits is 64"
    monkeypatch.setattr(parallel, "device_bytes", lambda mesh: needed - held - 1)
    assert Speed(model, mesh(), 4096, clock=Clock()).run(params)["largest"] == 32


def test_batches_are_split_over_the_devices(model, params):
    found = Speed(model, mesh(8), 16).run(params)
    assert found["batch"] in (8, 16)
    assert found["images_per_second"] > 0


def test_it_is_made_from_settings_and_needs_no_data(model, params):
    subject = Subject(model, (), DataSettings(name="nowhere"), "softmax", mesh(), 1)
    found = make_evaluator(EvaluatorSettings(kind="speed", most=2), subject, "config.evaluators.speed").run(params)
    assert set(found) == {"images_per_second", "batch", "examples"}
