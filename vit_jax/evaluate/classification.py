"""Exact classification metrics: every example counted once, on any number of hosts."""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.data import Batch, Dataset
from vit_jax.errors import UserError
from vit_jax.evaluate.losses import classification_loss
from vit_jax.evaluate.stream import Step, evaluation_step, results
from vit_jax.models import Model, Params, normalize

TOP_K = 5


class Classification:
    """Top-1, top-5 and loss on a split.

    Where an image has any number of labels, a class is right if it is one of them, and images without labels are left
    out of everything, the count too: that is how ImageNet-ReaL is scored (arXiv 2006.07159).

    Args:
      model: whose parameters will be tested.
      dataset: the split.
      mesh: of the job.
      batch_size: global; a multiple of the mesh's batch axes.
      loss: `softmax` or `sigmoid`, without smoothing.
      params: the parameters' shardings, as arrays or `ShapeDtypeStruct`s; None leaves them to jit.
    """

    def __init__(
        self, model: Model, dataset: Dataset, mesh: Mesh, batch_size: int, *, loss: str = "softmax", params: Any = None
    ):
        self._model, self._dataset, self._mesh, self._batch_size = model, dataset, mesh, batch_size
        self._rows = parallel.host_rows(mesh, batch_size)
        self._step = _make_step(model, mesh, loss, params)

    def run(self, params: Params) -> dict[str, float]:
        """`{"accuracy", "top5", "loss", "examples"}` of these parameters; top5 only above five classes.

        Sums of batches are added up on the host in double precision, so that counts stay exact.

        Raises:
          UserError: a label that the model has no class for.
        """
        return mean(results(self._step, params, self._mesh, self._batch_size, self._checked_batches()))

    def describe(self, found: dict[str, float]) -> str:
        """`accuracy 97.50%, loss 0.1234, 360 images`."""
        top5 = f", top-5 {found['top5']:.2%}" if "top5" in found else ""
        return f"accuracy {found['accuracy']:.2%}{top5}, loss {found['loss']:.4f}, {found['examples']:,.0f} images"

    def _checked_batches(self) -> Iterator[Batch]:
        for batch in self._dataset.eval_batches(self._batch_size, self._rows):
            if batch["label"].ndim == 2:
                given = batch["label"].shape[1]
                if given != self._model.classes:
                    raise UserError(f"the split has {given} classes and the model {self._model.classes}")
                yield batch
                continue
            wrong = (batch["label"] < 0) | (batch["label"] >= self._model.classes)
            if wrong.any():
                label = int(batch["label"][wrong][0])
                raise UserError(f"the split has label {label}; the model knows 0 to {self._model.classes - 1}")
            yield batch


def mean(sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Means over all examples, from each batch's sums and its number of `examples`, added in double precision."""
    total: dict[str, float] = collections.defaultdict(float)
    for found in sums:
        for name, value in found.items():
            total[name] += float(value)
    if not total:
        raise ValueError("the split is empty")
    count = total.pop("examples")
    if not count:
        raise UserError("no image of the split can be counted: none has a label, or none can be read")
    return {**{name: value / count for name, value in total.items()}, "examples": count}


def _make_step(model: Model, mesh: Mesh, loss: str, params: Any) -> Step:
    constrain = parallel.constrain_on(mesh)

    def step(params: Params, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        logits = model.apply(params, normalize(batch["image"]), constrain=constrain)["logits"]
        labels = batch["label"]
        true = jax.nn.one_hot(labels, model.classes, dtype=bool) if labels.ndim == 1 else labels > 0
        best = jnp.where(true, logits, -jnp.inf).max(axis=-1, keepdims=True)
        # Ties and NaN count as larger, so that a constant or broken output scores nothing by luck.
        rank = (~(logits < best) & ~true).sum(axis=-1)
        each = {
            "accuracy": rank == 0,
            "loss": classification_loss(logits, labels, loss),
            "examples": jnp.ones_like(rank),
        }
        if model.classes > TOP_K:
            each["top5"] = rank < TOP_K
        counted = batch["mask"] & true.any(axis=-1)
        return {name: jnp.where(counted, v, 0).sum(dtype=jnp.float32) for name, v in each.items()}

    return evaluation_step(step, mesh, params)
