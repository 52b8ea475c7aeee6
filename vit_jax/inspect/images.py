"""Which images of a split are looked at."""

import numpy as np

from vit_jax.data import Dataset, preview
from vit_jax.inspect.choices import spread


def spread_images(dataset: Dataset, count: int) -> tuple[np.ndarray, list[str]]:
    """At most `count` images of a split, evenly spread from its first to its last, as evaluation reads them.

    Returns:
      uint8 (n, h, w, c) and the names of their labels.
    """
    rows = spread(dataset.size, count)
    # One batch as long as the split, of which only these rows are read.
    return preview.pictures(dataset.eval_batches(dataset.size, rows), len(rows), dataset.label_names)
