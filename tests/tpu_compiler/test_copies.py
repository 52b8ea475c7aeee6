"""Nothing is copied, transposed or converted for its own sake within a block: counted in the TPU's program."""

import functools

import pytest

from vit_jax.parallel import parse_topology, topology_devices
from vit_jax.programs import hlo
from vit_jax.settings import build
from vit_jax.train import DataFacts, RunSettings, make_program

pytestmark = pytest.mark.tpu_compiler
ROWS = 32  # images on each of four chips
MOVES = ("copy", "transpose", "convert", "pad")


ACTIVATION = ROWS * 197 * 384 * 2  # bytes of a token sequence in bfloat16


def compiled(**model):
    """A step of S/16."""
    config = {
        "model": {"variant": "S/16", "dtype": "bfloat16", **model},
        "data": {"name": "synthetic", "image_size": (224,)},
        "train": {"batch_size": 4 * ROWS, "duration": "10 steps"},
        "schedule": {"learning_rate": 1e-3, "warmup": "1 step"},
        "mesh": {"data": 4},
        "evaluate": {"split": ""},
    }
    program = make_program(build(RunSettings, config), DataFacts(1000, 10), topology_devices(parse_topology("v5e:2x2")))
    lowered = program.train_step().trace(program.state, program.batch()).lower(lowering_platforms=("tpu",))
    return hlo.parse(lowered.compile().as_text())


@functools.cache
def loops(remat):
    """A step, and the bodies of its loops over blocks, forward and backward."""
    module = compiled(remat=remat)
    bodies = [i.attribute(r"body=%?([\w.\-]+)") for i in module.instructions() if i.opcode == "while"]
    return module, [module.computations[name] for name in bodies]


def large_moves(computation):
    """Opcodes and shapes of what moves a quarter of a token sequence or more."""
    moved = [(i.opcode, i.shape) for i in computation.values() if i.opcode in MOVES]
    return [(opcode, shape) for opcode, shape in moved if sum(a.bytes for a in hlo.arrays(shape)) >= ACTIVATION / 4]


def test_unrolled_blocks_move_no_activation_on_their_own():
    module = compiled(scan=False, remat="none", depth=2)
    found = large_moves(module.computations[module.entry])
    assert found  # the stem's, of 196 patches, and weights'
    assert not [shape for _, shape in found if f"[{ROWS},197," in shape]


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_a_block_moves_no_activation_on_its_own(remat):
    module, bodies = loops(remat)
    assert len(bodies) == 2
    assert any(i.opcode == "copy" for i in module.computations[module.entry].values())  # the stem's: they can be seen
    assert not [found for body in bodies for found in large_moves(body)]
    # Nor is a fusion there only to turn an array around.
    fused = [i for body in bodies for i in body.values() if i.opcode == "fusion"]
    assert len(fused) > 10
    turned = [
        (fusion.name, inner.shape)
        for fusion in fused
        for inner in module.computations[next(fusion.called())].values()
        if inner.opcode in ("copy", "transpose") and inner.bytes >= ACTIVATION / 4
    ]
    assert not turned
