"""Exact classification metrics: every example counted once, on any number of hosts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.data import Dataset
from vit_jax.models import Model, Params, normalize

TOP_K = 5


class Classification:
    """Top-1, top-5 and cross-entropy on a split.

    Args:
      model: whose parameters will be tested.
      dataset: the split.
      mesh: of the job.
      batch_size: global; a multiple of the mesh's batch axes.
      params: the parameters' shardings, as arrays or `ShapeDtypeStruct`s; None leaves them to jit.
    """

    def __init__(self, model: Model, dataset: Dataset, mesh: Mesh, batch_size: int, params: Any = None):
        self._dataset, self._mesh, self._batch_size = dataset, mesh, batch_size
        self._rows = parallel.host_rows(mesh, batch_size)
        self._step = _make_step(model, mesh, params)

    def run(self, params: Params) -> dict[str, float]:
        """`{"accuracy", "top5", "loss", "examples"}` of these parameters; top5 only above five classes."""
        batches = self._dataset.eval_batches(self._batch_size, self._rows)
        total: dict[str, jax.Array] | None = None
        for batch in parallel.feed(self._mesh, self._batch_size, self._rows, batches):
            sums = self._step(params, batch)
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
        if total is None:
            raise ValueError("the split is empty")
        host = {name: float(np.asarray(value)) for name, value in total.items()}
        count = host.pop("examples")
        return {**{name: value / count for name, value in host.items()}, "examples": count}


def _make_step(model: Model, mesh: Mesh, params: Any) -> Callable[[Params, dict[str, jax.Array]], dict[str, jax.Array]]:
    constrain = parallel.constrain_on(mesh)

    def step(params: Params, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        logits = model.apply(params, normalize(batch["image"]), constrain=constrain)["logits"]
        labels, mask = batch["label"], batch["mask"]
        of_label = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        loss = jax.nn.logsumexp(logits, axis=-1) - of_label[:, 0]
        sums = {"accuracy": logits.argmax(axis=-1) == labels, "loss": loss, "examples": jnp.ones_like(loss)}
        if model.classes > TOP_K:
            # Ties and NaN count as larger, so that a constant or broken output scores nothing by luck.
            rank = (~(logits < of_label)).sum(axis=-1) - 1
            sums["top5"] = rank < TOP_K
        return {name: jnp.where(mask, value, 0).sum(dtype=jnp.float32) for name, value in sums.items()}

    shardings = None if params is None else jax.tree.map(lambda leaf: leaf.sharding, params)
    return jax.jit(
        step, in_shardings=(shardings, parallel.batch_sharding(mesh)), out_shardings=parallel.replicated(mesh)
    )
