"""What inference costs: images a second at the best batch size, and the largest batch that fits (paper, figure 12)."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.models import Model, Params, normalize

REPEATS = 3
_WORTH = 1.03  # of the best rate: less is no reason to try still larger batches
_PATIENCE = 2  # doublings without that


class Speed:
    """Times the forward pass, logits included, on batches of 1, 2, 4, ... images for each part of the mesh.

    Args:
      model: whose forward pass.
      mesh: of the job.
      most: largest batch to try, global.
      params: shardings of the parameters.
      clock: seconds, replaced in tests.
    """

    def __init__(
        self, model: Model, mesh: Mesh, most: int, params: Any = None, clock: Callable[[], float] = time.perf_counter
    ):
        self._model, self._mesh, self._most, self._clock = model, mesh, most, clock
        self._shardings = None if params is None else jax.tree.map(lambda leaf: leaf.sharding, params)

    def run(self, params: Params) -> dict[str, float]:
        """`{"images_per_second", "batch", "largest", "examples"}`.

        `batch` is where the rate, over all devices, is best; `largest` the largest batch that was tried and fits, on
        devices that tell their memory only; `examples` counts the images that were timed.
        """
        limit = parallel.device_bytes(self._mesh)
        best, at, largest, timed, patience = 0.0, 0, 0, 0, _PATIENCE
        batch = parallel.batch_parallelism(self._mesh)
        while batch <= self._most and (patience > 0 or limit is not None):
            program = self._compile(params, batch)
            # The parameters are counted as in use, and again as an argument of the program.
            if limit is not None and parallel.program_bytes(program) > limit + _bytes(params, self._mesh):
                break
            largest = batch
            if patience > 0:
                rate = batch / self._seconds(program, params, batch)
                timed += batch * (REPEATS + 1)
                patience = _PATIENCE if rate > _WORTH * best else patience - 1
                best, at = (rate, batch) if rate > best else (best, at)
            batch *= 2
        found = {"images_per_second": best, "batch": float(at), "examples": float(timed)}
        return found if limit is None else {**found, "largest": float(largest)}

    def describe(self, found: dict[str, float]) -> str:
        """`1,234 images/s in batches of 64; the largest that fits is 512`."""
        text = f"{found['images_per_second']:,.1f} images/s in batches of {found['batch']:,.0f}"
        return f"{text}; the largest that fits is {found['largest']:,.0f}" if "largest" in found else text

    def _compile(self, params: Params, batch: int) -> Any:
        constrain = parallel.constrain_on(self._mesh)

        def forward(params: Params, images: jax.Array) -> jax.Array:
            found = self._model.apply(params, normalize(images), constrain=constrain)
            return found.get("logits", found["pre_logits"])

        rows = parallel.batch_sharding(self._mesh)
        shape = (batch, *self._model.image_size, self._model.channels)
        images = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=rows)
        return (
            jax.jit(forward, in_shardings=(self._shardings, rows), out_shardings=rows).lower(params, images).compile()
        )

    def _seconds(self, program: Any, params: Params, batch: int) -> float:
        """Of one batch, the fastest of some."""
        rows = parallel.host_rows(self._mesh, batch)
        local = np.zeros((len(rows), *self._model.image_size, self._model.channels), np.uint8)
        images = parallel.to_mesh(self._mesh, batch, rows, {"image": local})["image"]
        jax.block_until_ready(program(params, images))
        seconds = []
        for _ in range(REPEATS):
            began = self._clock()
            jax.block_until_ready(program(params, images))
            seconds.append(self._clock() - began)
        return max(min(seconds), 1e-9)


def _bytes(params: Params, mesh: Mesh) -> int:
    """Of the parameters on one device."""
    return parallel.bytes_per_device(params)[0] if jax.tree.leaves(params) else 0
