"""Exact metrics: what ten lines of NumPy say, on any mesh and with any batch size."""

import dataclasses

import jax
import numpy as np
import pytest

from vit_jax.data import DataSettings, SyntheticDataset
from vit_jax.errors import BadSetting, UserError
from vit_jax.evaluate import Classification, EvaluateSettings
from vit_jax.models import Model, ModelSettings, normalize
from vit_jax.parallel import MeshSettings, make_mesh, state_shardings

SIZE, CLASSES = 100, 10
DATASET = SyntheticDataset(DataSettings(name="synthetic", image_size=(8, 8)), size=SIZE)
MODEL = Model(ModelSettings("mu/4"), (8, 8), 3, CLASSES)


def random_params(model: Model = MODEL):
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0, 0.5, leaf.shape).astype(np.float32), model.abstract_params)


def reference(params):
    (batch,) = DATASET.eval_batches(SIZE, np.arange(SIZE))
    logits = np.asarray(jax.jit(MODEL.apply)(params, normalize(batch["image"]))["logits"], np.float64)
    label = batch["label"]
    best = np.argsort(-logits, axis=-1)[:, :5]
    of_label = logits[np.arange(SIZE), label]
    return {
        "accuracy": np.mean(best[:, 0] == label),
        "top5": np.mean((best == label[:, None]).any(axis=-1)),
        "loss": np.mean(np.log(np.exp(logits).sum(axis=-1)) - of_label),
        "examples": SIZE,
    }


@pytest.mark.parametrize(
    ("mesh", "devices", "batch_size"),
    [
        (MeshSettings(), 1, 7),
        (MeshSettings(), 1, 128),
        (MeshSettings(data=8), 8, 24),
        (MeshSettings(data=1, fsdp=8), 8, 16),
        (MeshSettings(data=2, fsdp=2, tensor=2), 8, 28),
    ],
)
def test_metrics_are_those_of_numpy_wherever_they_are_computed(mesh, devices, batch_size):
    mesh = make_mesh(mesh, jax.devices()[:devices])
    params = random_params()
    expected = reference(params)
    assert 0 < expected["accuracy"] < expected["top5"] < 1
    params = jax.device_put(params, state_shardings(params, MODEL.shapes, MODEL.logical_axes, mesh))
    found = Classification(MODEL, DATASET, mesh, batch_size, params=params).run(params)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def one_device():
    return make_mesh(MeshSettings(), jax.devices()[:1])


def constant(value: float):
    params = random_params()
    params["head"] = {"kernel": np.zeros((32, CLASSES), np.float32), "bias": np.full(CLASSES, value, np.float32)}
    return params


def test_constant_logits_earn_no_top5_by_luck(one_device):
    found = Classification(MODEL, DATASET, one_device, 50).run(constant(3.0))
    assert found["top5"] == 0.0
    assert found["loss"] == pytest.approx(np.log(CLASSES))


def test_logits_that_are_not_numbers_earn_no_top5(one_device):
    assert Classification(MODEL, DATASET, one_device, 50).run(constant(np.nan))["top5"] == 0.0


def test_the_fifth_of_ten_counts_and_the_sixth_does_not(one_device):
    params = constant(0.0)
    params["head"]["bias"] = -np.arange(CLASSES, dtype=np.float32)  # class 4 is fifth
    (batch,) = DATASET.eval_batches(SIZE, np.arange(SIZE))
    found = Classification(MODEL, DATASET, one_device, 50).run(params)
    assert found["top5"] == pytest.approx(np.mean(batch["label"] <= 4))
    assert found["accuracy"] == pytest.approx(np.mean(batch["label"] == 0))


def test_there_is_no_top5_of_five_classes(one_device):
    model = Model(MODEL.settings, (8, 8), 3, 5)
    dataset = SyntheticDataset(DATASET.settings, size=10, classes=5)
    found = Classification(model, dataset, one_device, 10).run(random_params(model))
    assert set(found) == {"accuracy", "loss", "examples"}


def test_an_empty_split_is_a_bug(one_device):
    with pytest.raises(ValueError, match="empty"):
        Classification(MODEL, SyntheticDataset(DATASET.settings, size=0), one_device, 10).run(random_params())


@pytest.mark.parametrize(("field", "value"), [("batch_size", -1), ("every", "often")])
def test_a_bad_setting_is_named(field, value):
    with pytest.raises(BadSetting) as error:
        EvaluateSettings(**{field: value})
    assert error.value.field == field


def test_sigmoid_models_are_tested_by_their_own_loss(one_device):
    params = random_params()
    logits = np.concatenate(
        [
            np.asarray(MODEL.apply(params, normalize(b["image"]))["logits"], np.float64)
            for b in DATASET.eval_batches(64, np.arange(64))
        ]
    )[: DATASET.size]
    labels = np.concatenate([b["label"] for b in DATASET.eval_batches(64, np.arange(64))])[: DATASET.size]
    signs = 2 * np.eye(MODEL.classes)[labels] - 1
    expected = np.log1p(np.exp(-signs * logits)).sum(axis=1).mean()
    found = Classification(MODEL, DATASET, one_device, 64, loss="sigmoid").run(params)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_label_without_a_class_is_refused(one_device):
    model = Model(MODEL.settings, MODEL.image_size, MODEL.channels, classes=6)
    with pytest.raises(UserError, match=r"label \d+; the model knows 0 to 5"):
        Classification(model, DATASET, one_device, 64).run(model.init(jax.random.key(0)))


class ManyLabels:
    """The synthetic images with any number of labels each, some with none."""

    size, label_names = SIZE, DATASET.label_names

    def __init__(self, classes=CLASSES):
        self.labels = (np.random.default_rng(5).uniform(size=(SIZE, classes)) < 0.15).astype(np.float32)

    def eval_batches(self, batch_size, rows):
        for number, batch in enumerate(DATASET.eval_batches(batch_size, rows)):
            index = (number * batch_size + rows) % SIZE
            yield {**batch, "label": self.labels[index]}


@pytest.mark.parametrize("batch_size", [7, 128])
def test_any_of_several_labels_is_right_and_images_without_are_left_out(one_device, batch_size):
    data, params = ManyLabels(), random_params()
    (batch,) = DATASET.eval_batches(SIZE, np.arange(SIZE))
    logits = np.asarray(jax.jit(MODEL.apply)(params, normalize(batch["image"]))["logits"])
    order = np.argsort(-logits, axis=-1)
    scored = [i for i in range(SIZE) if data.labels[i].any()]
    assert 0 < len(scored) < SIZE
    found = Classification(MODEL, data, one_device, batch_size).run(params)
    assert found["examples"] == len(scored)
    assert found["accuracy"] == pytest.approx(np.mean([data.labels[i, order[i, 0]] > 0 for i in scored]))
    assert found["top5"] == pytest.approx(np.mean([data.labels[i, order[i, :5]].any() for i in scored]))


def test_another_number_of_classes_is_refused(one_device):
    with pytest.raises(UserError, match="the split has 4 classes and the model 10"):
        Classification(MODEL, ManyLabels(4), one_device, 50).run(random_params())


def test_dropout_is_off(one_device):
    """A model with every kind of dropout is tested like the one without, which has the same parameters."""
    params = random_params()
    every = dataclasses.replace(
        MODEL.settings, dropout=0.5, attention_dropout=0.5, stochastic_depth=0.5, attention="plain"
    )
    plain = dataclasses.replace(MODEL.settings, attention="plain")
    found = [
        Classification(dataclasses.replace(MODEL, settings=settings), DATASET, one_device, 50).run(params)
        for settings in (every, plain)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
