"""Mesh sizes and what they refuse."""

import jax
import pytest
from jax.sharding import AxisType

from vit_jax.errors import BadSetting
from vit_jax.parallel import MeshSettings, batch_parallelism, check_batch, describe_mesh, make_mesh


def test_one_axis_takes_the_devices_that_are_left():
    mesh = make_mesh(MeshSettings(tensor=2))
    assert dict(mesh.shape) == {"replica": 1, "data": 4, "fsdp": 1, "tensor": 2}
    assert batch_parallelism(mesh) == 4
    assert set(mesh.devices.flat) == set(jax.devices())


def test_axes_are_automatic_so_that_the_compiler_places_collectives():
    assert set(make_mesh(MeshSettings()).axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("sizes", [{"data": 3}, {"data": 2, "fsdp": 2}, {"data": -1, "tensor": 16}])
def test_sizes_must_multiply_to_the_devices(sizes):
    with pytest.raises(BadSetting, match=r"mesh.*8 devices.*multiply to 8"):
        make_mesh(MeshSettings(**sizes))


def test_only_one_axis_is_free():
    with pytest.raises(BadSetting, match="fsdp"):
        MeshSettings(data=-1, fsdp=-1)


@pytest.mark.parametrize("size", [0, -2])
def test_sizes_are_positive(size):
    with pytest.raises(BadSetting, match="tensor"):
        MeshSettings(tensor=size)


def test_a_batch_that_does_not_divide_is_answered_with_numbers_that_work():
    mesh = make_mesh(MeshSettings(data=2, fsdp=2, tensor=2))
    check_batch("b", 24, mesh)
    with pytest.raises(BadSetting, match=r"multiple of 4 .*\[8, 12\] would work"):
        check_batch("b", 10, mesh)
    with pytest.raises(BadSetting, match=r"multiple of 12 .*3 micro-batches.*\[12\] would work"):
        check_batch("b", 8, mesh, micro_batches=3)
    with pytest.raises(BadSetting, match="must be at least 1"):
        check_batch("b", -8, mesh)


def test_description_is_for_people():
    assert describe_mesh(make_mesh(MeshSettings(fsdp=2))) == "8 cpu devices as data 4 x fsdp 2, 1 process"
    assert describe_mesh(make_mesh(MeshSettings(), jax.devices()[:1])) == "1 cpu device as one, 1 process"
