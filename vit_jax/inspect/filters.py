"""The filters that see pixels: principal components of a patch embedding, a ResNet's root convolution."""

import dataclasses

import numpy as np

from vit_jax.models import Model, Params

COMPONENTS = 28  # as many as the paper shows


@dataclasses.dataclass(frozen=True)
class Filters:
    """Filters as pictures.

    Attributes:
      pictures: float32 (n, h, w, c) in [0, 1], each filter rescaled by itself.
      explained: (n,) share of the variance over all filters that each component explains; None if `pictures` are the
        filters themselves.
      number: of filters that the model has.
    """

    pictures: np.ndarray
    explained: np.ndarray | None
    number: int


def filter_kernel(model: Model) -> str:
    """The name of the parameter that sees pixels."""
    return "trunk/root/kernel" if model.settings.resolved.trunk else "embedding/kernel"


def pixel_filters(model: Model, params: Params) -> Filters:
    """The first 28 principal components of the patch embedding (paper, figure 7 left), or the root's filters.

    A root convolution standardises its kernel; rescaled to [0, 1], a filter looks the same before and after.
    """
    if model.settings.resolved.trunk:
        filters = np.moveaxis(np.asarray(params["trunk"]["root"]["kernel"], np.float64), -1, 0)
        return Filters(_rescaled(filters), None, len(filters))
    filters = np.moveaxis(np.asarray(params["embedding"]["kernel"], np.float64), -1, 0)
    components, explained = principal_components(filters.reshape(len(filters), -1), COMPONENTS)
    return Filters(_rescaled(components.reshape(-1, *filters.shape[1:])), explained, len(filters))


def principal_components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The directions in which centred rows vary most.

    Args:
      rows: (m, n).
      count: how many are wanted; there are at most min(m, n).

    Returns:
      (count, n) unit vectors, the largest entry of each positive, and (count,) the share of the variance along each.
    """
    _, lengths, components = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    components, variance = components[:count], lengths**2
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return components * np.where(largest < 0, -1.0, 1.0), variance[:count] / max(variance.sum(), np.finfo(float).tiny)


def _rescaled(filters: np.ndarray) -> np.ndarray:
    """(n, h, w, c), each brought to [0, 1] by its own smallest and largest value; a constant one becomes 0."""
    low, high = (end(axis=(1, 2, 3), keepdims=True) for end in (filters.min, filters.max))
    return ((filters - low) / np.where(high > low, high - low, 1.0)).astype(np.float32)
