"""Names of slices, and the devices they stand for."""

import importlib.util

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.errors import BadSetting, UserError
from vit_jax.parallel import CHIPS, Topology, chip_of, parse_topology, topology_devices

# From Google's tables of configurations (docs.cloud.google.com/tpu/docs/v3, v4, v5e, v5p, v6e, tpu7x).
SOLD = {
    "v3-8": "v3:2x2",
    "v3-32": "v3:4x4",
    "v3-128": "v3:8x8",
    "v3-512": "v3:16x16",
    "v3-2048": "v3:32x32",
    "v4-8": "v4:2x2x1",
    "v4-16": "v4:2x2x2",
    "v4-32": "v4:2x2x4",
    "v4-64": "v4:2x4x4",
    "v4-128": "v4:4x4x4",
    "v4-256": "v4:4x4x8",
    "v4-4096": "v4:8x16x16",
    "v5litepod-1": "v5e:1x1",
    "v5litepod-4": "v5e:2x2",
    "v5litepod-8": "v5e:2x4",
    "v5litepod-16": "v5e:4x4",
    "v5litepod-32": "v5e:4x8",
    "v5litepod-256": "v5e:16x16",
    "v5e-256": "v5e:16x16",
    "v5p-8": "v5p:2x2x1",
    "v5p-128": "v5p:4x4x4",
    "v5p-2048": "v5p:8x8x16",
    "v6e-8": "v6e:2x4",
    "v6e-256": "v6e:16x16",
    "tpu7x-128": "tpu7x:4x4x4",
}


@pytest.mark.parametrize("name", SOLD)
def test_slices_are_known_by_the_names_they_are_sold_under(name):
    found = parse_topology(name)
    assert found == parse_topology(SOLD[name])
    assert str(found) == SOLD[name]


@pytest.mark.parametrize(
    ("text", "devices"),
    [("v3:4x4", 32), ("v4:4x4x8", 128), ("v5e:16x16", 256), ("v5p:4x4x8", 128), ("tpu7x:4x4x4", 128), ("cpu:8", 8)],
)
def test_some_chips_are_two_devices(text, devices):
    assert parse_topology(text).devices == devices


def test_slices_multiply():
    found = parse_topology("v5e:16x16", 4)
    assert (found.chips, str(found)) == (1024, "4 x v5e:16x16")


@given(st.integers(0, 10))
def test_any_power_of_two_of_cores_has_a_shape_of_that_size(doublings):
    cores = 2 ** (doublings + 1)
    assert parse_topology(f"v4-{cores}").chips * 2 == cores


@pytest.mark.parametrize(
    ("text", "slices", "complaint"),
    [
        ("v9:2x2", 1, "TPUs are v3, v4, v5e"),
        ("v5e", 1, "write v5e:16x16"),
        ("v5e:0x4", 1, "write v5e:16x16"),
        ("v5e:4x4x4", 1, "slices of v5e have 2 sides"),
        ("v4:4x4", 1, "slices of v4 have 3 sides"),
        ("v5e:32x32", 1, "at most 256 chips"),
        ("v4-3", 1, "no usual shape"),
        ("v5litepod-12", 1, "no usual shape"),
        ("v5e:4x4", 0, "--num_slices = 0"),
        ("gpu:8", 2, "slices are of TPUs"),
        ("cpu:2x4", 1, "write cpu:8"),
    ],
)
def test_what_is_no_slice_is_answered_in_one_line(text, slices, complaint):
    with pytest.raises(BadSetting, match=complaint) as found:
        parse_topology(text, slices)
    assert "\n" not in str(found.value)


def test_fake_devices_are_those_of_the_process():
    assert topology_devices(parse_topology("cpu:4")) == jax.devices()[:4]


@pytest.mark.parametrize("text", ["cpu:1024", "gpu:4"])
def test_devices_that_are_not_here_cannot_be_planned_for(text):
    with pytest.raises(UserError, match=r"has \d such devices, and only TPUs can be planned for without having them"):
        topology_devices(parse_topology(text))


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '\.\[tpu\]'"):
        topology_devices(Topology("tpu", "v5e", (4, 4)))


def test_chips_are_found_by_what_jax_calls_their_devices():
    assert chip_of("TPU v5 lite") is CHIPS["v5e"]
    assert chip_of("TPU v5") is CHIPS["v5p"]
    assert chip_of("cpu") is None
    kinds = [kind for chip in CHIPS.values() for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize(("name", "units"), [("v3", 4), ("v4", 8), ("v5e", 4), ("v5p", 8)])
def test_a_clock_is_the_peak_over_what_the_matrix_units_do_in_a_cycle(name, units):
    chip = CHIPS[name]
    assert chip.clock * units * 2 * 128 * 128 == pytest.approx(chip.flops, rel=0.01)
