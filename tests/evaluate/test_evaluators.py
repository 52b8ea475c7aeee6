"""From settings of an evaluator to its data: what it inherits from the run, and what is refused."""

import jax
import pytest

from vit_jax.data import DataSettings
from vit_jax.errors import BadSetting, UserError
from vit_jax.evaluate import EvaluatorSettings, Subject, check_labels, make_evaluator
from vit_jax.evaluate.evaluators import _data_settings
from vit_jax.models import Model, ModelSettings
from vit_jax.parallel import MeshSettings, make_mesh

PRETRAIN = DataSettings(task="imagenet21k", image_size=(64, 48), subset="10%", augment="randaugment(2, 10)")
FINETUNE = DataSettings(task="cifar10", data_dir="/data")
WHOLE, SQUEEZED = "resize_small|central_crop", "resize(ratio=1.143)|central_crop"
OWN = DataSettings(name="mine", eval_preprocess="decode|resize")


@pytest.mark.parametrize(
    ("about", "run", "name", "label_key", "preprocess"),
    [
        ({"task": "imagenet_v2"}, PRETRAIN, "imagenet_v2/matched-frequency:3.*.*", "label", WHOLE),
        ({"task": "imagenet_v2"}, FINETUNE, "imagenet_v2/matched-frequency:3.*.*", "label", "resize"),
        ({"task": "imagenet2012_real"}, PRETRAIN, "imagenet2012_real:1.*.*", "real_label", WHOLE),
        ({"task": "objectnet"}, FINETUNE, "objectnet", "labels", "resize_small(ratio=1.167)|central_crop"),
        ({"kind": "fewshot", "task": "cifar100"}, FINETUNE, "cifar100:3.*.*", "label", SQUEEZED),
        ({"kind": "knn", "task": "cifar100"}, FINETUNE, "cifar100:3.*.*", "label", "resize"),
        ({"name": "other", "label_key": "l"}, OWN, "other", "l", "resize"),
        ({"task": "cifar10", "preprocess": "decode|resize(1.0)"}, OWN, "cifar10:3.*.*", "label", "resize(1.0)"),
        ({}, OWN, "mine", "label", "resize"),
        ({"kind": "fewshot"}, FINETUNE, "cifar10:3.*.*", "label", SQUEEZED),
    ],
)
def test_data_and_pre_processing_are_the_tasks_at_the_size_of_the_model(about, run, name, label_key, preprocess):
    found = _data_settings(EvaluatorSettings(**about), run)
    assert (found.name, found.label_key, found.eval_preprocess) == (name, label_key, f"decode|{preprocess}")
    assert found.height_width == run.height_width
    assert found.data_dir == run.data_dir
    assert found.subset is None


def test_label_operations_stay_before_the_decoding():
    found = _data_settings(EvaluatorSettings(kind="fewshot", task="vtab/clevr_count"), PRETRAIN)
    assert found.eval_preprocess == "clevr_count|decode|resize(ratio=1.143)|central_crop"
    assert found.label_key is None


def subject(model="mu/2", names=tuple(f"class {i}" for i in range(10)), **settings):
    data = DataSettings(name="synthetic", image_size=(8, 8))
    built = Model(ModelSettings(model, **settings), (8, 8), 3, len(names))
    return Subject(built, names, data, "softmax", make_mesh(MeshSettings(), jax.devices()[:1]), 64)


@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        ({"kind": "linear", "l2": (1.0, 2.0)}, "evaluators.x.validation = '': l2 names several strengths"),
        ({"task": "cifar_10"}, "evaluators.x.task = 'cifar_10': not in the catalog; did you mean"),
        ({"kind": "fewshot", "task": "imagenet_v2"}, "evaluators.x.support = '': imagenet_v2 has no training images"),
    ],
)
def test_what_cannot_be_had_is_named_below_the_evaluator(about, complaint):
    with pytest.raises(BadSetting, match=complaint):
        make_evaluator(EvaluatorSettings(**about), subject(), "config.evaluators.x")


def test_a_model_of_patches_has_no_classifier_but_features():
    patches = subject(pool="none")
    with pytest.raises(BadSetting, match="does not classify images"):
        make_evaluator(EvaluatorSettings(), patches, "x")
    params = patches.model.init(jax.random.key(0))
    found = make_evaluator(EvaluatorSettings(kind="knn"), patches, "x").run(params)
    assert 0 <= found["accuracy"] <= 1


def test_classes_must_be_those_of_the_model():
    with pytest.raises(UserError, match="x: class 0 is 'class 0' in the data set and 'a' in the model"):
        make_evaluator(EvaluatorSettings(), subject(names=("a", *(f"class {i}" for i in range(1, 10)))), "x")
    with pytest.raises(UserError, match="x: the data set has 10 classes and the model 3"):
        make_evaluator(EvaluatorSettings(), subject(names=("a", "b", "c")), "x")
    other = subject(names=tuple("abcdefghij"))
    make_evaluator(EvaluatorSettings(ignore_label_names=True), other, "x")
    check_labels(("a", "b"), ("a", "b"))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"kind": "few_shot"}, "kind = 'few_shot': did you mean \"fewshot\"?"),
        ({"shots": ()}, "shots = .*at least 1"),
        ({"l2": (0.0,)}, "l2 = .*positive"),
        ({"seeds": 0}, "seeds = 0: must be at least 1"),
        ({"every": "often"}, "every = 'often'"),
    ],
)
def test_impossible_settings_are_refused(values, complaint):
    with pytest.raises(BadSetting, match=complaint):
        EvaluatorSettings(**values)


def test_the_short_form_of_the_command_line():
    assert EvaluatorSettings.parse("imagenet_v2") == EvaluatorSettings(task="imagenet_v2")
    assert EvaluatorSettings.parse("fewshot:vtab/dtd") == EvaluatorSettings(kind="fewshot", task="vtab/dtd")
    with pytest.raises(BadSetting, match="kind = 'nn'"):
        EvaluatorSettings.parse("nn:cifar10")
