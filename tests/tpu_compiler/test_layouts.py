"""What the TPU compiler makes of our layouts: the same promises that `tests/parallel` checks with XLA for CPUs."""

import functools
import math

import pytest

from tests.parallel.test_collectives import CLASSES, TOKENS, collectives, elements, on, one_layer, results, settings_of
from vit_jax.parallel import parse_topology, topology_devices
from vit_jax.programs import costs, hlo
from vit_jax.train import DataFacts, make_program

pytestmark = pytest.mark.tpu_compiler
ROWS = 32  # on each of eight chips


@functools.cache
def compiled(mesh, family="vit"):
    settings = settings_of(mesh, family, batch=8 * ROWS)
    program = make_program(settings, DataFacts(1000, CLASSES), topology_devices(parse_topology("v5e:2x4")))
    lowered = program.train_step().trace(program.state, program.batch()).lower(lowering_platforms=("tpu",))
    return program, hlo.parse(lowered.compile().as_text())


@pytest.mark.parametrize("family", ["vit", "hybrid"])
def test_fsdp_gathers_each_parameter_that_is_split_and_no_activation(family):
    """At once, or piece by piece around the ring while products with earlier pieces run; gradients go back likewise."""
    program, module = compiled(on(fsdp=8), family)
    at_once, passed = (results(collectives(module, kind)) for kind in ("all-gather", "collective-permute"))
    gathered = elements(at_once) | {8 * size for size in elements(passed)}
    split = elements(one_layer(program, any).values())
    whole = elements(one_layer(program, lambda spec: True).values())
    assert split <= gathered
    assert all(size <= max(whole) for size in gathered)
    assert not any(_is_activation(shape) for shape in [*at_once, *passed])
    kinds = {kind.kind for kind in costs.count(module, 8).collectives()}
    assert kinds <= {"all-gather", "collective-permute", "all-reduce", "reduce-scatter"}
    assert kinds & {"all-reduce", "reduce-scatter"}


def test_tensor_parallelism_reduces_activations_and_gathers_only_the_patch_embedding_s_output():
    _, module = compiled(on(data=2, tensor=4))
    reduced = [shape for shape in results(collectives(module, "all-reduce", "reduce-scatter")) if _is_activation(shape)]
    assert reduced
    gathered = {math.prod(s) for s in results(collectives(module, "all-gather")) if _is_activation(s)}
    assert gathered <= {4 * ROWS * (TOKENS - 1) * 96}


def _is_activation(shape):
    """By a dimension that only sequences have."""
    return any(size in (TOKENS, TOKENS - 1) for size in shape)
