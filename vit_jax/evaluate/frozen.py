"""Tests of frozen features: few-shot and linear classifiers in closed form, and nearest neighbours."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from vit_jax.data import Dataset, permute
from vit_jax.evaluate import ridge
from vit_jax.evaluate.features import Features, feature_extractor
from vit_jax.evaluate.neighbours import nearest
from vit_jax.evaluate.settings import EvaluatorSettings
from vit_jax.models import Model, Params


@dataclasses.dataclass(frozen=True)
class Splits:
    """The data of one such test.

    Attributes:
      support: images with labels to learn from: all of them, or, for few-shot tests on large sets, a choice for each
        seed, in the order in which they are taken.
      test: what is reported.
      validation: where `l2` is chosen; None if nothing is to be chosen.
    """

    support: tuple[Dataset, ...]
    test: Dataset
    validation: Dataset | None = None


class Frozen:
    """A `fewshot`, `linear` or `knn` test.

    Args:
      settings: what is done.
      splits: on what.
      model: whose features.
      mesh: of the job.
      batch_size: global, of the extraction.
      params: shardings, see `feature_extractor`.
    """

    def __init__(
        self,
        settings: EvaluatorSettings,
        splits: Splits,
        model: Model,
        mesh: Mesh,
        batch_size: int,
        params: Params | None = None,
    ):
        self._settings, self._splits = settings, splits
        self._extract = feature_extractor(model, mesh, batch_size, params)

    def run(self, params: Params) -> dict[str, float]:
        """The accuracies.

        `fewshot`: `{"5_shot": mean over seeds, "5_shot_std": deviation, ...}`; `linear` and `knn`: `{"accuracy"}`. All
        also `examples`, the number of tested images.
        """
        test = self._extract(params, self._splits.test)
        validation = self._extract(params, self._splits.validation) if self._splits.validation is not None else None
        classes = len(self._splits.test.label_names)
        found: dict[str, float] = {}
        if self._settings.kind == "fewshot":
            pools = self._pools(params)
            for shots in self._settings.shots:
                scores = [
                    self._linear(pool.take(first_of_each(pool.labels, shots)), validation, test, classes)
                    for pool in pools
                ]
                found |= {f"{shots}_shot": float(np.mean(scores)), f"{shots}_shot_std": float(np.std(scores))}
        else:
            (pool,) = (self._extract(params, pool) for pool in self._splits.support)
            if self._settings.kind == "knn":
                predicted = nearest(pool, test.values, classes, self._settings.neighbours)
                found["accuracy"] = float((predicted == test.labels).mean())
            else:
                found["accuracy"] = self._linear(pool, validation, test, classes)
        return {**found, "examples": float(len(test.labels))}

    def _pools(self, params: Params) -> list[Features]:
        """Features to take the first images of each class from, one set for each seed."""
        found = [self._extract(params, pool) for pool in self._splits.support]
        if len(found) == self._settings.seeds > 1:
            return found
        size = len(found[0].labels)
        epoch, places = np.zeros(size, np.int64), np.arange(size)
        return [found[0].take(permute(seed, epoch, places, size)) for seed in range(self._settings.seeds)]

    def _linear(self, support: Features, validation: Features | None, test: Features, classes: int) -> float:
        """Test accuracy of the ridge classifier; a strength that was chosen is used on support and validation alike.

        A few-shot test leaves the validation images out of the support: they would be more shots.
        """
        settings = self._settings
        options: dict[str, Any] = {"bias": settings.bias, "whiten": settings.whiten}
        l2 = settings.l2[0]
        if validation is not None:
            l2 = ridge.choose_l2(support, validation, classes, settings.l2, **options)
            if settings.kind == "linear":
                support = Features(*(np.concatenate(pair) for pair in zip(support, validation, strict=True)))
        return ridge.accuracy(ridge.fit(*support, classes, l2, **options), *test)

    def describe(self, found: dict[str, float]) -> str:
        """`1-shot 61.2%, 5-shot 80.4% (std 0.6), 360 images`."""
        shots: Sequence[int] = self._settings.shots if self._settings.kind == "fewshot" else ()
        parts = [f"{k}-shot {found[f'{k}_shot']:.2%} (std {100 * found[f'{k}_shot_std']:.2f})" for k in shots]
        parts += [f"{self._settings.kind} accuracy {found['accuracy']:.2%}"] if not shots else []
        return f"{', '.join(parts)}, {found['examples']:,.0f} images"


def first_of_each(labels: np.ndarray, number: int) -> np.ndarray:
    """Indices, ascending, of the first `number` examples of each class; of a smaller class, of all."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0])
    rank = np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
    return np.sort(order[rank < number])
