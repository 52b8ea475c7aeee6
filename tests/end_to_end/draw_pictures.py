"""One process of several: draws pictures of a model whose parameters are split over all of them.

Usage: draw_pictures.py <folder>; the environment says which process this is.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from vit_jax import parallel
from vit_jax.inspect import pictures
from vit_jax.models import Model, ModelSettings


def main() -> None:
    parallel.start()
    mesh = parallel.make_mesh(parallel.MeshSettings(data=1, fsdp=2, tensor=2))
    model = Model(ModelSettings("mu/2", width=128, depth=2, registers=1), (8, 12), 3, 5)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32), model.abstract_params)
    params = parallel.on_mesh(params, parallel.state_shardings(params, model.shapes, model.logical_axes, mesh))
    images = random.integers(0, 256, (5, 8, 12, 3), np.uint8)
    album = pictures(model, params, images, Path(sys.argv[1]), mesh=mesh, shown=2)
    assert bool(album.files) == parallel.is_main()
    parallel.barrier("drawn")


if __name__ == "__main__":
    main()
