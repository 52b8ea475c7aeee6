"""Parts of a split: a fraction, a number of examples, or some of each class; seeded, smaller within larger."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from vit_jax.data.cache import Pieces, cached, digest
from vit_jax.data.order import permute
from vit_jax.data.sizes import SUBSET_FORMS, images_per_class, subset_size
from vit_jax.data.sources import Source
from vit_jax.errors import BadSetting

_LOOK = 4096  # examples whose labels are read at a time


class Subset(Source):
    """Some examples of a source, by a function from their indices here to those there."""

    def __init__(self, source: Source, size: int, there: Callable[[np.ndarray], np.ndarray], held: int = 0):
        self._source, self._size, self._there, self._held = source, size, there, held
        self.label_names, self.multi_label = source.label_names, source.multi_label
        self.plain = source.plain

    def __len__(self) -> int:
        return self._size

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """See `Source`."""
        return self._source.fetch(self._there(indices))

    def parse(self, record: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        """See `Source`."""
        return self._source.parse(record, label)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """See `Source`."""
        return self._source.labels(self._there(indices))

    def describe(self, index: int) -> str:
        """See `Source`."""
        return self._source.describe(int(self._there(np.array([index]))[0]))

    def memory_bytes(self) -> int:
        """See `Source`."""
        return self._source.memory_bytes() + self._held


def take_subset(source: Source, text: str, seed: int, field: str = "config.data.subset") -> Source:
    """The part of a source that a setting describes.

    A fraction or number takes the first examples of the permutation that belongs to the seed, which is a function and
    costs no memory; `k per class` the first k of each class in the same permutation. So the same source and seed give
    the same subset in every run, and smaller subsets lie within larger ones of the same kind.

    Args:
      source: of the whole split.
      text: `10%`, `5000`, `9M` or `5 per class`.
      seed: another one gives another subset.
      field: for errors.

    Raises:
      BadSetting: another text, more examples than there are, or classes of a source that has none or several an image.
    """
    each = images_per_class(text)

    def there(indices: np.ndarray) -> np.ndarray:
        return permute(seed, np.zeros_like(indices), indices, len(source))

    if each is None:
        return Subset(source, subset_size(text, len(source), field), there)
    if each < 1:
        raise BadSetting(field, text, SUBSET_FORMS)
    if source.multi_label or not source.label_names:
        raise BadSetting(field, text, "needs a data set with one label an image")
    chosen = _each_class(source, each, seed, there)
    return Subset(source, len(chosen), lambda indices: chosen[indices], chosen.nbytes)


def _each_class(source: Source, each: int, seed: int, there: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Indices of `each` examples of every class, or all there are; kept on disk where the source has a name."""
    classes = len(source.label_names)
    if not source.name:
        return _choose(source, each, there)

    def pieces() -> Pieces:
        chosen = _choose(source, each, there)
        yield 0, np.concatenate([chosen, np.full(each * classes - len(chosen), -1)])

    found = cached(f"subset-{digest(1, source.name, each, seed)}", each * classes, pieces)
    return np.array(found[found >= 0])


def _choose(source: Source, each: int, there: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Looks at labels in the order of the permutation until every class is full, which usually takes a small part."""
    missing = np.full(len(source.label_names), each)
    chosen = []
    for start in range(0, len(source), _LOOK):
        indices = there(np.arange(start, min(start + _LOOK, len(source))))
        labels = source.labels(indices)
        for index, label in zip(indices, labels, strict=True):
            if label >= 0 and missing[label]:
                missing[label] -= 1
                chosen.append(index)
        if not missing.any():
            break
    return np.array(chosen, np.int64)
