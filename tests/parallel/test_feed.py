"""Rows of a host and global arrays on the mesh."""

import numpy as np
import pytest

from vit_jax.parallel import MeshSettings, feed, host_rows, make_mesh, to_mesh

MESHES = [{}, {"data": 1, "fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "tensor": 8}]


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_each_device_holds_its_rows(sizes):
    mesh = make_mesh(MeshSettings(**sizes))
    rows = host_rows(mesh, 16)
    np.testing.assert_array_equal(rows, np.arange(16))
    image = np.random.default_rng(0).integers(0, 255, (16, 2, 2, 3), np.uint8)
    array = to_mesh(mesh, 16, rows, {"image": image})["image"]
    np.testing.assert_array_equal(array, image)
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(shard.data, image[shard.index])
    parts = {shard.index[0].indices(16)[:2] for shard in array.addressable_shards}
    assert len(parts) == mesh.size // mesh.shape["tensor"]


def test_feed_keeps_the_order_and_runs_ahead():
    mesh = make_mesh(MeshSettings())
    taken = []

    def batches():
        for i in range(6):
            taken.append(i)
            yield {"label": np.full(8, i, np.int32)}

    stream = feed(mesh, 8, host_rows(mesh, 8), batches(), ahead=2)
    assert int(next(stream)["label"][0]) == 0
    assert taken == [0, 1, 2]
    assert [int(batch["label"][0]) for batch in stream] == [1, 2, 3, 4, 5]
