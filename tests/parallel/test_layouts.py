"""Every parameter's layout, against files that a person can read; and what stays whole although the mesh splits."""

import functools
import math
import re

import pytest

from tests.parallel.layouts import FAMILIES, GOLDEN, MESHES, specs, text
from vit_jax import parallel
from vit_jax.models import Model, ModelSettings

MIB = 2**20


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_lies_as_it_is_written(family):
    """A change that is meant is written down by `python -m tests.parallel.layouts`."""
    assert text(FAMILIES[family]) == (GOLDEN / f"{family}.txt").read_text(encoding="utf-8")


def test_no_other_family_is_written_down():
    assert {path.stem for path in GOLDEN.iterdir()} == set(FAMILIES)


# What may be above 1 MiB and on every device although fsdp splits the rest: (pattern, why).
WHOLE = (
    (
        r"blocks/.*/(bias|scale)",
        "vectors, one a layer: each layer's is below 128 KiB, and gathering it would cost a collective's latency to "
        "save less than a thousandth of the state",
    ),
    (
        r"positions/relative_embedding",
        "an odd number of rows, one an offset, and every head reads all of each",
    ),
)

# The largest of each family, and those with unusual widths.
LARGE = (
    *("L/16", "H/14", "g/14", "G/14", "e/14", "So400m/14", "22B/14"),
    *("R50+L/16", "R152+B/32", "R50+L/32"),
    *("R50x1", "R101x3", "R152x4", "R200x3"),
)


@functools.cache
def large(variant):
    options = {} if "x" in variant else {"pool": "map"}
    return Model(ModelSettings(variant, **options), (448, 448), 3, 21_841)


@pytest.mark.parametrize("fsdp", [8, 16, 64])
@pytest.mark.parametrize("variant", LARGE)
def test_nothing_large_is_whole_under_fsdp_without_a_reason(variant, fsdp):
    model = large(variant)
    found = specs(model, (1, 1, fsdp, 1))
    whole = {name: 4 * math.prod(model.shapes[name]) for name, spec in found.items() if not any(spec)}
    unexplained = {
        name: size
        for name, size in whole.items()
        if size > MIB and not any(re.fullmatch(pattern, name) for pattern, _ in WHOLE)
    }
    assert not unexplained
    assert sum(whole.values()) < 4 * model.parameter_count / 200


def test_the_reasons_are_true():
    """Vectors are short, and no reason covers what does not exist."""
    for name, shape in large("22B/14").shapes.items():
        if re.fullmatch(WHOLE[0][0], name):
            assert len(shape) <= 3
            assert 4 * math.prod(shape[1:]) < 128 * 1024
    relative = FAMILIES["positions"]
    name = "positions/relative_embedding"
    assert re.fullmatch(WHOLE[1][0], name)
    assert 4 * math.prod(relative.shapes[name]) > MIB
    assert relative.shapes[name][1] % 2


def test_tensor_splits_heads_mlp_patches_and_classes():
    found = specs(FAMILIES["vit"], MESHES["tensor 4"])
    split = {name for name, spec in found.items() if "tensor" in spec}
    attention = {f"blocks/attn/{part}/kernel" for part in ("query", "key", "value", "out")}
    mlp = {"blocks/mlp/dense1/kernel", "blocks/mlp/dense2/kernel"}
    assert {*attention, *mlp, "embedding/kernel", "head/kernel"} <= split


def test_what_does_not_divide_is_said():
    model = Model(ModelSettings("Ti/16"), (224, 224), 3, 21_841)  # 3 heads
    said = parallel.undivided(model.shapes, model.logical_axes, parallel.abstract_mesh((1, 1, 2, 2)))
    assert [line.partition(" (")[0] for line in said] == [
        "heads: 3 do not divide by tensor 2",
        "classes: 21,841 do not divide by tensor 2",
    ]
    assert said[-1].endswith("(2 parameters)")  # kernel and bias of the head
    assert not parallel.undivided(model.shapes, model.logical_axes, parallel.abstract_mesh((1, 4, 2, 1)))


def test_an_axis_that_does_not_divide_leaves_the_dimension_to_the_next():
    mesh = parallel.abstract_mesh((1, 1, 4, 3))
    assert parallel.parameter_spec((16, 16, 3, 768), ("patch", "patch", "channels", "patch_embed"), mesh)[3] == (
        "fsdp",
        "tensor",
    )
    assert parallel.parameter_spec((16, 16, 3, 64), ("patch", "patch", "channels", "patch_embed"), mesh)[3] == "fsdp"
    assert parallel.parameter_spec((16, 16, 3, 66), ("patch", "patch", "channels", "patch_embed"), mesh)[3] == "tensor"
