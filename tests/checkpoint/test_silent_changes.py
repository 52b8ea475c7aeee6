"""Nothing that changes what a model computes goes unsaid: found by a review, each with its smallest case."""

import json

import jax
import numpy as np
import pytest

from vit_jax.checkpoint import Metadata, TrainingCheckpoints, adapt, export_npz, export_stablehlo, export_timm, load
from vit_jax.checkpoint.adapt import Report
from vit_jax.errors import BadSetting, UserError
from vit_jax.evaluate import predict
from vit_jax.models import Model, ModelSettings

LABELS = tuple("abc")


def random_params(model):
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype(np.float32), model.abstract_params)


def bare(tmp_path, size=(16, 16), classes=3, **settings):
    """(model, an npz without description)."""
    model = Model(ModelSettings("mu/4", **settings), size, 3, classes)
    path = tmp_path / "ViT.npz"
    export_npz(random_params(model), Metadata(model, LABELS[:classes], {}), path)
    path.with_suffix(".json").unlink()
    return model, path


def test_a_square_table_is_resized_even_for_a_grid_of_as_many_patches(tmp_path):
    _, path = bare(tmp_path)
    weights = load(path, image_size=(8, 32))
    assert weights.report.resized == {"pos_embedding": "4x4 to 2x8, bilinear"}


def test_a_model_without_positions_is_not_taken_for_one_that_has_none(tmp_path):
    model, path = bare(tmp_path, posemb="sincos_2d")
    with pytest.raises(UserError, match=r"model\.posemb=sincos_2d or none"):
        load(path, image_size=(16, 16))
    weights = load(path, image_size=(16, 16), settings={"posemb": "sincos_2d"})
    images = np.random.default_rng(1).uniform(-1, 1, (1, 16, 16, 3))
    wanted = model.apply(random_params(model), images)["logits"]
    np.testing.assert_allclose(weights.metadata.model.apply(weights.params, images)["logits"], wanted, rtol=1e-5)


def test_mean_pooling_is_said_to_be_assumed(tmp_path):
    assert load(bare(tmp_path, pool="gap")[1]).report.assumed == ("pool=gap",)
    assert load(bare(tmp_path)[1]).report.assumed == ()


def test_what_is_assumed_of_arrays_without_config_is_said(tmp_path):
    model = Model(ModelSettings("Ti/4", depth=12), (8, 8), 3, 3)
    export_timm(random_params(model), Metadata(model, LABELS, {}), tmp_path / "timm")
    assert load(tmp_path / "timm").report.assumed == ()
    alone = tmp_path / "alone.safetensors"
    (tmp_path / "timm" / "model.safetensors").rename(alone)
    weights = load(alone)
    assert weights.metadata.model.settings.gelu == "erf"
    said = " ".join(weights.report.assumed)
    assert all(text in said for text in ("heads=3", "gelu=erf", "pixels in [-1, 1]"))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_folder_says_how_logits_become_probabilities(tmp_path, loss):
    model = Model(ModelSettings("mu/4"), (8, 8), 3, 3)
    export_timm(random_params(model), Metadata(model, LABELS, {"train": {"loss": loss}}), tmp_path / "timm")
    assert load(tmp_path / "timm").metadata.config["train"]["loss"] == loss


@pytest.mark.parametrize("options", [{"classes": 0}, {"pool": "none"}])
def test_what_does_not_classify_does_not_predict(tmp_path, options):
    model, path = bare(tmp_path, **options)
    weights = load(path, settings={"pool": model.settings.pooling})
    with pytest.raises(UserError, match=r"ViT\.npz' does not classify images"):
        predict(weights, np.zeros((1, 16, 16, 3), np.uint8))


def test_a_program_of_an_untrained_classifier_cannot_be_checked(tmp_path):
    model = Model(ModelSettings("mu/4", head_bias=-10.0), (8, 8), 3, 3)
    with pytest.raises(UserError, match="its classifier is all zeros"):
        export_stablehlo(model.init(jax.random.key(0)), Metadata(model, LABELS, {}), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def save(tmp_path):
    """Saves one checkpoint and gives its folder."""

    def write(params=None, model=None):
        model = model or Model(ModelSettings("mu/4"), (8, 8), 3, 3)
        checkpoints = TrainingCheckpoints(tmp_path / "w" / "checkpoints")
        params = jax.tree.map(jax.numpy.asarray, params or random_params(model))
        state = {"params": params, "opt": {"count": jax.numpy.zeros(())}}
        checkpoints.save(state, Metadata(model, LABELS, {}, 1))
        checkpoints.close()
        return tmp_path / "w" / "checkpoints" / "1"

    return write


def test_a_checkpoint_that_is_not_finite_is_refused(save):
    params = random_params(Model(ModelSettings("mu/4"), (8, 8), 3, 3))
    params["head"]["bias"][1] = np.nan
    with pytest.raises(UserError, match="has values in head/bias that are not finite"):
        load(save(params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about["model"]["settings"].update(mlp_dim=77), "blocks/mlp/dense1/bias"),
        (lambda about: about["model"].update(classes=4), "names 3 classes, and its model has 4"),
        (lambda about: about.update(label_names=["a"]), "names 1 classes, and its model has 3"),
    ],
)
def test_a_checkpoint_must_be_what_it_says(save, change, message):
    folder = save()
    text = folder / "metadata" / "metadata"
    about = json.loads(text.read_text())
    change(about)
    text.write_text(json.dumps(about))
    with pytest.raises(UserError, match=message):
        load(folder)


def test_settings_for_a_model_of_ours_are_refused(save):
    with pytest.raises(BadSetting, match="says itself what its model is"):
        load(save(), settings={"gelu": "erf"})


def test_the_report_says_which_function_changes():
    source = Model(ModelSettings("mu/4"), (8, 8), 3, 3)
    target = Model(ModelSettings("mu/4", gelu="erf", norm_epsilon=1e-12, posemb_at="shared"), (8, 8), 3, 3)
    _, report = adapt(random_params(source), source, target)
    assert report.changed == (
        "gelu from tanh to erf",
        "norm_epsilon from 1e-06 to 1e-12",
        "posemb_at from stem to shared",
    )
    assert any(line.startswith("changed   gelu from tanh to erf") for line in report.lines())
    assert adapt(random_params(source), source, source)[1].changed == Report().changed


def test_new_classes_start_at_the_models_bias():
    source = Model(ModelSettings("mu/4"), (8, 8), 3, 2)
    target = Model(ModelSettings("mu/4", head_bias=-10.0), (8, 8), 3, 3)
    params = random_params(source)
    found, _ = adapt(params, source, target, head="resize", labels=(("a", "b"), ("b", "c", "a")))
    bias = params["head"]["bias"]
    np.testing.assert_array_equal(found["head"]["bias"], np.array([bias[1], -10, bias[0]], np.float32))


def test_a_folder_of_pickles_gets_advice(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(UserError, match=r"pickle pytorch_model\.bin.*convert it to safetensors"):
        load(tmp_path)


def test_somebody_elses_json_beside_an_npz_is_not_its_description(tmp_path):
    _, path = bare(tmp_path)
    path.with_suffix(".json").write_text('{"notes": "mine"}')
    assert load(path).layout == "released npz"


@pytest.mark.parametrize("size", [32, [32, 32], (32, 32)])
def test_an_image_size_may_be_a_number_or_a_pair(tmp_path, size):
    assert load(bare(tmp_path)[1], image_size=size).metadata.model.image_size == (32, 32)


@pytest.mark.parametrize("size", [(1, 2, 3), (32, -1), ("a", 2)])
def test_a_strange_image_size_is_refused(tmp_path, size):
    with pytest.raises(BadSetting, match="image_size"):
        load(bare(tmp_path)[1], image_size=size)
