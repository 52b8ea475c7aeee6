"""Shares of the learning rate: rules, depth, freezing."""

import jax
import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings
from vit_jax.train.multipliers import frozen, learning_rate_multipliers
from vit_jax.train.settings import OptimizerSettings
from vit_jax.trees import named_leaves


def multipliers(settings, **options):
    return learning_rate_multipliers(OptimizerSettings(**options), Model(ModelSettings(**settings), (64, 64), 3, 5))


def test_layer_decay_of_a_vit():
    found = multipliers({"variant": "mu/16", "depth": 3, "pre_logits": True}, layer_decay=0.5)
    for name in ("cls", "pos_embedding", "embedding/kernel"):
        assert found[name] == 0.5**4
    np.testing.assert_allclose(found["blocks/mlp/dense1/kernel"], [0.5**3, 0.5**2, 0.5])
    for name in ("norm/scale", "pre_logits/bias", "head/kernel"):
        assert found[name] == 1


def test_layer_decay_of_position_embeddings_in_every_layer():
    found = multipliers({"variant": "mu/16", "depth": 2, "posemb_at": "every_layer"}, layer_decay=0.1)
    np.testing.assert_allclose(found["positions/pos_embedding"], [0.01, 0.1])


def test_a_hybrids_trunk_is_its_lowest_layer():
    found = multipliers({"variant": "R26+mu/32", "depth": 2}, layer_decay=0.5)
    assert {float(found[name]) for name in found if name.startswith("trunk/")} == {0.5**3}


def test_the_layers_of_a_resnet_are_its_stages():
    found = multipliers({"variant": "R26x1"}, layer_decay=0.5)
    assert found["trunk/root/kernel"] == 0.5**5
    assert found["trunk/block1/unit1/conv1/kernel"] == 0.5**4
    assert found["trunk/block4/units/conv1/kernel"] == 0.5
    assert found["norm/scale"] == found["head/kernel"] == 1


def test_rules_and_depth_multiply():
    rules = (("head/.*", 10.0), ("blocks/mlp/.*", 0.0), (".*", 1.0))
    found = multipliers({"variant": "mu/16", "depth": 2}, learning_rate_rules=rules, layer_decay=0.5)
    assert found["head/bias"] == 10
    assert found["cls"] == 0.5**3
    assert frozen(found) == {name for name in found if name.startswith("blocks/mlp/")}


def test_every_parameter_must_match():
    with pytest.raises(UserError, match=r"config\.optimizer\.learning_rate_rules: no rule matches"):
        multipliers({"variant": "mu/16"}, learning_rate_rules=(("head/.*", 1.0),))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adafactor", "lion", "muon"])
def test_a_frozen_backbone_stays_and_the_head_learns(tiny_run, tmp_path, optimizer):
    from vit_jax.checkpoint import load
    from vit_jax.train import create_state, preflight, train

    settings = tiny_run(
        optimizer={
            "name": optimizer,
            "weight_decay": 0.1,
            "learning_rate_rules": (("head/.*", 1.0), (".*", 0.0)),
        },
        mesh={"fsdp": 2},
    )
    plan = preflight(settings)
    assert any(line.startswith("frozen") for line in plan.describe())
    before = named_leaves(jax.device_get(create_state(plan.model, plan.optimizer, plan.state, settings.seed)["params"]))
    train(settings, tmp_path / "w")
    after = named_leaves(load(tmp_path / "w").params)
    for name in before:
        same = np.array_equal(before[name], after[name])
        assert same == (not name.startswith("head/")), name
