"""Features of the images of a split, from a frozen model."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.data import Dataset
from vit_jax.evaluate.stream import evaluation_step, results
from vit_jax.models import Model, Params, normalize


class Features(NamedTuple):
    """Features of n images, on every host.

    Attributes:
      values: (n, d) float32.
      labels: (n,) int32.
    """

    values: np.ndarray
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> "Features":
        """Those of some images."""
        return Features(self.values[indices], self.labels[indices])


def feature_extractor(
    model: Model, mesh: Mesh, batch_size: int, params: Params | None = None
) -> Callable[[Params, Dataset], Features]:
    """A function that gives the features of all images of a split, in its order.

    The features are `pre_logits`, what the classifier reads; of a model that classifies patches, their mean.

    Args:
      model: whose features.
      mesh: of the job.
      batch_size: global.
      params: shardings, see `evaluation_step`.
    """
    constrain = parallel.constrain_on(mesh)

    def step(params: Params, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        x = model.apply(params, normalize(batch["image"]), constrain=constrain)["pre_logits"]
        x = x.mean(axis=1) if x.ndim == 3 else x
        return {"values": x.astype(jnp.float32), "label": batch["label"], "mask": batch["mask"]}

    compiled = evaluation_step(step, mesh, params)
    rows = parallel.host_rows(mesh, batch_size)

    def extract(params: Params, dataset: Dataset) -> Features:
        values, labels = [], []
        for found in results(compiled, params, mesh, batch_size, dataset.eval_batches(batch_size, rows)):
            values.append(found["values"][found["mask"]])
            label = found["label"][found["mask"]]
            labels.append(label if label.ndim == 1 else label.argmax(axis=1))
        return Features(np.concatenate(values), np.concatenate(labels))

    return extract
