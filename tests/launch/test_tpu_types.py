"""Slices by name and by shape, against the tables of Google's documentation."""

import pytest

from vit_jax.errors import BadSetting
from vit_jax.launch import tpu_types
from vit_jax.parallel import parse_topology


# Cloud TPU documentation, "TPU architecture" pages: type, chips, VMs.
@pytest.mark.parametrize(
    ("name", "chips", "hosts"),
    [
        ("v2-8", 4, 1),
        ("v3-32", 16, 4),
        ("v4-8", 4, 1),
        ("v4-32", 16, 4),
        ("v4-4096", 2048, 512),
        ("v5litepod-1", 1, 1),
        ("v5litepod-8", 8, 1),
        ("v5litepod-16", 16, 4),
        ("v5litepod-256", 256, 64),
        ("v5p-8", 4, 1),
        ("v5p-128", 64, 16),
        ("v6e-8", 8, 1),
        ("v6e-256", 256, 64),
    ],
)
def test_types(name, chips, hosts):
    found = tpu_types.by_type(name, "x")
    assert (found.chips, found.hosts, found.accelerator_type) == (chips, hosts, name)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("v5litepod-256", "v5e:16x16"),
        ("v5e-16", "v5litepod:4x4"),
        ("v4-256", "v4:4x4x8"),
        ("v5p-128", "v5p:4x4x4"),
        ("v6e-32", "v6e:4x8"),
        ("tpu7x-128", "tpu7x:4x4x4"),
    ],
)
def test_names_and_shapes_agree(name, shape):
    assert tpu_types.by_type(name, "x") == tpu_types.by_topology(shape, "x")


@pytest.mark.parametrize("table", [tpu_types.FLAT, tpu_types.DEEP])
def test_usual_shapes_have_as_many_chips(table):
    for chips, shape in table.items():
        product = 1
        for side in shape.split("x"):
            product *= int(side)
        assert product == chips


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("v5-8", "unknown TPU"),
        ("v5e", "unknown TPU"),
        ("v4-12", "multiple of 8"),
        ("v5e-12", "there are v5litepod-1, v5litepod-4"),
        ("v4-x", "multiple of 8"),
        ("", "unknown TPU"),
    ],
)
def test_unknown_names_are_refused(text, fix):
    with pytest.raises(BadSetting, match=fix) as refused:
        tpu_types.by_type(text, "accelerator_type")
    assert refused.value.field == "accelerator_type"


@pytest.mark.parametrize("text", ["v5e:4x4x4", "v4:4x4", "v5e:0x4", "v5e", "v5e:3x3", "v9:4x4"])
def test_impossible_shapes_are_refused(text):
    with pytest.raises(BadSetting):
        tpu_types.by_topology(text, "topology")


SIZES = [
    (name, chips)
    for name, kind in tpu_types.KINDS.items()
    for chips in (tpu_types.FLAT if kind.dimensions == 2 else tpu_types.DEEP)
    if name != "v2"  # which the planner does not know
]


@pytest.mark.parametrize(("name", "chips"), SIZES)
def test_what_is_launched_is_what_is_planned(name, chips):
    """Launchers load no JAX, so they have a table of their own."""
    kind = tpu_types.KINDS[name]
    text = f"{kind.name}-{chips * kind.cores}"
    launched, planned = tpu_types.by_type(text, "x"), parse_topology(text)
    assert (planned.chip, planned.chips) == (name, chips)
    assert launched.chips == chips
    assert "x".join(map(str, planned.shape)) == launched.topology
