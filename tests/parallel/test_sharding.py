"""Where every part of the state lies, and what the compiled step does about it."""

import re

import jax
import pytest
from jax.sharding import PartitionSpec as P

from vit_jax import parallel
from vit_jax.models import Model, ModelSettings
from vit_jax.train import make_train_step, preflight, supervised
from vit_jax.trees import named_leaves

# nano/2: width 64, depth 4, mlp 256, 4 heads. Under 4,096 elements a parameter stays whole.
ON_FSDP_2_TENSOR_2 = {
    "cls": P(),
    "pos_embedding": P(),
    "embedding/kernel": P(),
    "embedding/bias": P(),
    "blocks/attn/query/kernel": P(None, "fsdp", "tensor", None),
    "blocks/attn/out/kernel": P(None, "tensor", None, "fsdp"),
    "blocks/mlp/dense1/kernel": P(None, "fsdp", "tensor"),
    "blocks/mlp/dense2/kernel": P(None, "tensor", "fsdp"),
    "blocks/mlp/dense1/bias": P(),
    "blocks/norm1/scale": P(),
    "head/kernel": P(),
}


def _specs(tree):
    return {name: leaf.sharding.spec for name, leaf in named_leaves(tree).items()}


def _plan(tiny_run, **mesh):
    train = {"ema_decay": 0.9, "batch_size": 16}
    return preflight(tiny_run(model={"variant": "nano/2"}, mesh={"data": -1, **mesh}, train=train))


@pytest.mark.parametrize("part", ["params", "ema", "adam mu", "adam nu"])
def test_parameters_averages_and_moments_are_laid_out_alike(part, tiny_run):
    state = _plan(tiny_run, fsdp=2, tensor=2).state
    trees = {"adam mu": state["opt"]["adam"].mu, "adam nu": state["opt"]["adam"].nu}
    found = _specs(trees[part] if part in trees else state[part])
    assert {name: found[name] for name in ON_FSDP_2_TENSOR_2} == ON_FSDP_2_TENSOR_2


def test_everything_large_is_split_under_fsdp():
    """B/16 on eight devices: what is left whole is small."""
    mesh = parallel.make_mesh(parallel.MeshSettings(data=1, fsdp=8))
    model = Model(ModelSettings("B/16"), (224, 224), 3, 1000)
    shardings = parallel.state_shardings(model.abstract_params, model.shapes, model.logical_axes, mesh)
    whole = [name for name, sharding in named_leaves(shardings).items() if sharding.is_fully_replicated]
    leaves = named_leaves(model.abstract_params)
    assert max(leaves[name].size for name in whole) * 4 < 2**20
    abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        model.abstract_params,
        shardings,
    )
    local, copied = parallel.bytes_per_device(abstract)
    assert copied == 4 * sum(leaves[name].size for name in whole)
    assert local - copied == (4 * model.parameter_count - copied) / 8
    assert local < 4 * model.parameter_count / 8 * 1.02


def test_a_dimension_that_does_not_divide_stays_whole():
    mesh = parallel.make_mesh(parallel.MeshSettings(data=1, fsdp=8))
    assert parallel.parameter_spec((100, 100), ("embed", "mlp"), mesh) == P(None, None)
    assert parallel.parameter_spec((104, 100), ("embed", "mlp"), mesh) == P("fsdp", None)


def _lowered(plan):
    objective = supervised(plan.model, "softmax", 0.0)
    step = make_train_step(
        objective, plan.optimizer, plan.schedule, plan.state, plan.mesh, plan.multipliers, seed=0, ema_decay=0.9
    )
    size = plan.settings.train.batch_size
    sharding = parallel.batch_sharding(plan.mesh)
    shapes = {"image": ((size, 8, 8, 3), "uint8"), "label": ((size,), "int32")}
    batch = {name: jax.ShapeDtypeStruct(*leaf, sharding=sharding) for name, leaf in shapes.items()}
    return step.lower(plan.state, batch)


def _collectives(plan):
    text = _lowered(plan).compile().as_text()
    found = re.findall(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(", text)
    return {kind: found.count(kind) for kind in set(found)}


def test_activation_constraints_reach_the_program(tiny_run):
    """Forward: stem, positions, 6 in the attention and 3 in the MLP and block of the scanned body, logits."""
    text = _lowered(_plan(tiny_run, tensor=2)).as_text()
    assert text.count("sharding_constraint") >= 12


def test_data_parallel_training_only_reduces(tiny_run):
    assert set(_collectives(_plan(tiny_run))) == {"all-reduce"}


def test_fsdp_gathers_parameters(tiny_run):
    found = _collectives(_plan(tiny_run, data=1, fsdp=8))
    assert found["all-gather"] > 0
    assert "all-to-all" not in found


def test_tensor_parallel_blocks_reduce_their_outputs(tiny_run):
    data = _collectives(_plan(tiny_run))["all-reduce"]
    tensor = _collectives(_plan(tiny_run, tensor=2))
    assert tensor["all-reduce"] > data
    assert "all-to-all" not in tensor
