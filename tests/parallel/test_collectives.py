"""What the compiled step sends between eight devices, on meshes of every kind: what we expect, and nothing else."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.parallel import MeshSettings, batch_sharding, make_mesh
from vit_jax.parallel.sharding import ActivationSharding
from vit_jax.programs import costs, hlo
from vit_jax.settings import build
from vit_jax.train import DataFacts, RunSettings, make_program
from vit_jax.trees import named_leaves

# Sizes that occur nowhere else, so that a shape tells what it is: 5 x 7 patches and a class token, 3 images a device.
IMAGE, TOKENS, CLASSES = (10, 14), 36, 40
PER_DEVICE = 3


def settings_of(mesh, family="vit", batch=8 * PER_DEVICE):
    """A small run whose parameters are above the least size that is split."""
    encoder = {"width": 96, "heads": 4, "depth": 3, "mlp_dim": 160}
    model = {
        "vit": {"variant": "mu/2", **encoder},
        "map": {"variant": "mu/2", **encoder, "pool": "map"},
        "hybrid": {"variant": "R26+mu/16", **encoder, "trunk_units": (1, 2)},
        "resnet": {"variant": "R26x1", "trunk_units": (1, 2)},
    }[family]
    config = {
        "model": model,
        "data": {"name": "synthetic", "image_size": IMAGE if family in ("vit", "map") else (40, 56)},
        "mesh": {"data": 1, **dict(mesh)},
        "train": {"batch_size": batch, "duration": "6 steps"},
        "schedule": {"warmup": "2 steps"},
    }
    return build(RunSettings, config)


@functools.cache
def compiled(mesh, family="vit"):
    """(program, its text read)."""
    program = make_program(settings_of(mesh, family), DataFacts(1000, CLASSES))
    text = program.train_step().trace(program.state, program.batch()).lower().compile().as_text()
    return program, hlo.parse(text)


def on(**mesh):
    return tuple(mesh.items())


def collectives(module, *kinds):
    return [i for i in module.instructions() if i.opcode.removesuffix("-start") in kinds]


def results(found):
    return [array.shape for instruction in found for array in instruction.results]


def elements(shapes):
    """How many elements arrays of these shapes have: compilers reorder and merge dimensions."""
    return {math.prod(shape) for shape in shapes}


def one_layer(program, wanted):
    """Shapes of the parameters whose layout `wanted` accepts, of stacked ones one layer's."""
    named = named_leaves(program.state["params"])
    axes = program.model.logical_axes
    chosen = {name: leaf.shape for name, leaf in named.items() if wanted(leaf.sharding.spec)}
    return {name: shape[axes[name][0] == "layers" :] for name, shape in chosen.items()}


FAMILIES = ("vit", "map", "hybrid", "resnet")


def each(*cases):
    """(family, mesh); what is not the plain ViT is left to `make test-long`, because each compiles for seconds."""
    return [pytest.param(*case, marks=() if case[0] == "vit" else pytest.mark.long, id=str(case)) for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "mesh"), each(*((family, on(data=8)) for family in FAMILIES)))
def test_data_parallel_training_only_reduces_gradients(family, mesh):
    program, module = compiled(mesh, family)
    assert {i.opcode for i in collectives(module, *costs.COLLECTIVES)} == {"all-reduce"}
    gradients = elements(one_layer(program, lambda spec: True).values())
    assert elements(results(collectives(module, "all-reduce"))) <= {*gradients, 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "mesh"),
    each(*((family, on(fsdp=8)) for family in FAMILIES), ("vit", on(replica=2, data=2, fsdp=2))),
)
def test_fsdp_gathers_each_parameter_that_is_split_and_nothing_else(family, mesh):
    """No activation is gathered, exchanged or passed on."""
    program, module = compiled(mesh, family)
    gathered = elements(results(collectives(module, "all-gather")))
    split = one_layer(program, any)
    # The learned query of the pooling head takes part in one product for all images: its kernel need not be gathered.
    spared = {name for name in split if name in ("map_head/attn/query/kernel", "pos_embedding")}
    assert elements(shape for name, shape in split.items() if name not in spared) <= gathered
    assert gathered <= elements(one_layer(program, lambda spec: True).values())
    assert not collectives(module, "all-to-all", "collective-permute")


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [on(data=2, tensor=4), on(fsdp=2, tensor=4)], ids=str)
def test_tensor_parallel_blocks_reduce_twice_forward_and_twice_backward(mesh):
    """As in Megatron-LM: after attention and after the MLP; backward before both, once for each of q, k and v."""
    assert _block_reductions(*compiled(mesh)) == [2, 4]


@pytest.mark.slow
def test_pinning_the_order_of_axes_adds_no_reduction_to_tensor_parallel_blocks(monkeypatch):
    monkeypatch.setattr(ActivationSharding, "platform", "gpu")
    assert _block_reductions(*compiled.__wrapped__(on(data=2, tensor=4))) == [2, 4]


def _block_reductions(program, module):
    """All-reduces of tokens in each loop that has any, ascending."""
    tokens = (8 * PER_DEVICE // (8 // program.mesh.shape["tensor"]), TOKENS, 96)
    loops = [c for c in module.computations.values() if any(tokens in results([i]) for i in c.values() if _reduces(i))]
    return sorted(sum(results([i]).count(tokens) for i in c.values() if _reduces(i)) for c in loops)


def _reduces(instruction):
    return instruction.opcode.removesuffix("-start") == "all-reduce"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "mesh"),
    each(*((family, on(fsdp=2, tensor=4)) for family in FAMILIES), ("vit", on(data=2, tensor=4))),
)
def test_tensor_parallelism_gathers_only_the_patch_embedding_s_output(family, mesh):
    """And logits, of which the largest is sought; parameters by fsdp; gradients of those too small to be split."""
    program, module = compiled(mesh, family)
    rows = 8 * PER_DEVICE // (8 // program.mesh.shape["tensor"])
    allowed = elements(one_layer(program, lambda spec: True).values())
    allowed |= {math.prod(shape) // 4 for shape in one_layer(program, lambda spec: "tensor" in str(spec)).values()}
    stacked = (
        {leaf.size for leaf in named_leaves(program.state["params"]["blocks"]).values()}
        if family != "resnet"
        else set()
    )
    logits = {rows * 4, rows * CLASSES}
    embedding = rows * (TOKENS - 1) * 96
    gathered = elements(results(collectives(module, "all-gather")))
    assert gathered <= {*allowed, *stacked, *logits, embedding}
    assert (embedding in gathered) == (family != "resnet")
    assert not collectives(module, "all-to-all")


class OnGpus(ActivationSharding):
    """There the order of axes in memory is pinned."""

    platform = "gpu"


def test_pinning_the_order_of_axes_sends_nothing():
    """No device holds all of the batch, and those along `tensor` hold the same rows."""
    mesh = make_mesh(MeshSettings(data=4, tensor=2))

    def loss(x):
        return (OnGpus(mesh)(jnp.sin(x), ("batch", "tokens", "embed")) ** 2).sum()

    traced = jax.jit(jax.value_and_grad(loss), in_shardings=batch_sharding(mesh)).trace(jnp.ones((8, 5, 16)))
    assert "layout_constraint" in str(traced.jaxpr)
    module = hlo.parse(traced.lower().compile().as_text())
    assert elements(results(collectives(module, *costs.COLLECTIVES))) == {1}  # the sum


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pinning_the_order_of_axes_changes_no_bit_of_a_gradient(dtype):
    constrain = OnGpus(make_mesh(MeshSettings(data=2, tensor=3), jax.devices()[:6]))
    x = jax.random.normal(jax.random.key(0), (4, 9, 16)).astype(dtype)
    _, pull = jax.vjp(lambda x: constrain(x, ("batch", "tokens", "embed")), x)
    np.testing.assert_array_equal(pull(x)[0], x)
