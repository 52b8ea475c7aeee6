"""What a run's data settings mean, with a task of the catalog and without."""

import dataclasses

import pytest

from vit_jax.data import DataSettings, catalog
from vit_jax.errors import BadSetting
from vit_jax.settings import build, to_dict
from vit_jax.train import RunSettings

FILLED = ("name", "train_split", "label_key", "image_size", "train_preprocess", "eval_preprocess")


def test_without_a_task_empty_fields_have_their_defaults():
    found = DataSettings()
    assert (found.name, found.train_split, found.label_key, found.image_size) == (
        "digits",
        "train",
        "label",
        (224, 224),
    )
    assert found.train_preprocess == "decode|inception_crop|flip"
    assert found.eval_preprocess == "decode|resize_small|central_crop"
    assert found.test_split == "test"


@pytest.mark.parametrize("name", [name for name, task in catalog.TASKS.items() if task.train])
@pytest.mark.parametrize("stage", ["dev", "final"])
def test_a_task_fills_every_empty_field(name, stage):
    found = DataSettings(task=name, stage=stage)
    wanted = catalog.settings_for(name, stage)
    for field in FILLED:
        assert getattr(found, field) == wanted["data"][field]
    assert found.test_split == wanted["evaluate"]["split"]
    assert RunSettings(data=found).evaluate.split == found.test_split


def test_what_is_given_goes_before_the_task():
    found = DataSettings(task="cifar10", name="mine", train_split="train[:5%]", image_size=(32,), crops="bit")
    assert (found.name, found.train_split, found.image_size) == ("mine", "train[:5%]", (32,))
    assert found.train_preprocess == "decode|resize(ratio=1.25)|random_crop|flip"


def test_augmentations_come_after_crop_and_flip():
    found = DataSettings(task="imagenet2012", crops="pretrain", augment="randaugment(2, 10)")
    assert found.train_preprocess == "decode|inception_crop|flip|randaugment(2, 10)"
    assert "randaugment" not in found.eval_preprocess


def test_labels_that_are_computed_are_computed_first():
    found = DataSettings(task="vtab/clevr_count", augment="solarize")
    assert found.train_preprocess == "clevr_count|decode|resize|flip|solarize"
    assert found.label_key is None


@pytest.mark.parametrize("name", ["digits", "cifar10", "vtab/dsprites_location", "jft"])
def test_filled_settings_mean_the_same_when_they_are_read_again(name):
    """`config.json` holds them filled."""
    run = RunSettings(data=DataSettings(task=name, augment="solarize", stage="dev"))
    assert build(RunSettings, to_dict(run)) == run
    assert dataclasses.replace(run.data) == run.data


def test_a_set_of_ones_own_is_named_by_its_task_until_it_has_a_name():
    assert DataSettings(task="jft").name == "jft"
    assert DataSettings(task="jft", name="mine").name == "mine"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"task": "cifar_10"}, "task = 'cifar_10': not in the catalog"),
        ({"stage": "test"}, "stage = 'test': must be dev or final"),
        ({"crops": "large"}, "crops = 'large': did you mean \"bit_large\"?"),
        ({"task": "objectnet", "stage": "dev"}, "stage = 'dev': objectnet is only evaluated"),
        ({"train_preprocess": "decode", "augment": "flip"}, "augment = 'flip': config.data.train_preprocess is given"),
    ],
)
def test_what_does_not_fit_is_refused(values, complaint):
    with pytest.raises(BadSetting, match=complaint):
        DataSettings(**values)
