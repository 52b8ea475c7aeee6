"""Times by hand."""

import dataclasses

import pytest

from tests.scaling.plans import MOVED, compiled
from vit_jax import parallel
from vit_jax.parallel import CHIPS, parse_topology
from vit_jax.scaling.planning.record import Collectives
from vit_jax.scaling.planning.roofline import StepTime, group_bandwidth, step_time


def test_each_time_is_an_amount_over_a_rate():
    """16 v5e chips: 197 TFLOP/s and 819 GB/s each; links of 45 GB/s, whose sides of 4 are no rings; 1.5 GHz."""
    found = step_time(compiled(), CHIPS["v5e"], parse_topology("v5e:4x4"))
    assert found.compute == pytest.approx(0.1)
    assert found.memory == pytest.approx(8.19e9 / 819e9)
    assert found.links == pytest.approx(9e6 / 45e9 + 18e6 / 90e9)  # one side, then both
    assert found.network == 0
    assert found.schedule == pytest.approx(0.01)
    assert (found.bound, found.least, found.estimate) == ("compute", found.compute, found.compute)


def test_a_chip_of_two_devices_does_the_work_of_both():
    moved = dataclasses.replace(MOVED, collectives=(Collectives("all-reduce", 32, 10e6, 1),))
    found = step_time(compiled(moved=moved, flops=int(1e15)), CHIPS["v3"], parse_topology("v3:4x4"))
    assert found.compute == pytest.approx(1e15 / (16 * 123e12))
    assert found.memory == pytest.approx(2 * 8.19e9 / 900e9)
    assert found.links == pytest.approx(2 * 10e6 / (2 * 100e9))


def test_slices_talk_over_the_network():
    moved = dataclasses.replace(MOVED, network=50e6)
    found = step_time(compiled(moved=moved), CHIPS["v5e"], parse_topology("v5e:4x4", 2))
    assert found.network == pytest.approx(50e6 / 3.125e9)
    assert found.compute == pytest.approx(0.05)  # twice the chips


def test_the_schedule_raises_the_estimate_and_not_what_is_certain():
    found = StepTime(compute=0.1, memory=0.2, links=0.05, network=0.0, schedule=0.3)
    assert (found.bound, found.least, found.estimate) == ("memory", 0.2, 0.3)
    assert StepTime(0.1, 0.2, 0.05, 0.0, 0.0).estimate == 0.2


def test_an_unknown_clock_gives_no_schedule():
    assert step_time(compiled(), CHIPS["tpu7x"], parse_topology("tpu7x:2x2x4")).schedule == 0


@pytest.mark.parametrize(
    ("topology", "group", "links"),
    [
        ("v5e:16x16", 2, 2),  # a ring of 16, both ways
        ("v5e:16x16", 16, 2),
        ("v5e:16x16", 32, 4),
        ("v5e:16x16", 256, 4),
        ("v5e:4x8", 8, 1),  # not closed
        ("v5e:4x8", 32, 2),
        ("v4:4x4x8", 8, 2),
        ("v4:4x4x8", 32, 4),
        ("v4:4x4x8", 128, 6),
        ("v4:2x2x4", 4, 2),
        ("v4:2x2x4", 16, 4),  # rings of 4, lines of 2
        ("v3:16x16", 512, 2),
        ("v3:32x32", 2048, 4),
        ("v5e:1x1", 1, 1),
    ],
)
def test_larger_groups_have_more_links(topology, group, links):
    found = parse_topology(topology)
    chip = CHIPS[found.chip]
    assert group_bandwidth(group, chip, found.shape) == pytest.approx(links * chip.link)


def test_gpus_of_a_host_share_a_switch_and_hosts_a_network():
    chip = parallel.CHIPS["h100"]
    assert group_bandwidth(8, chip, (16,)) == chip.link
    assert group_bandwidth(16, chip, (16,)) == chip.network
