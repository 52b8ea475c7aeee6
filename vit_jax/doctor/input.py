"""How many images a second the hosts can make for a run."""

import numpy as np

from vit_jax import parallel
from vit_jax.doctor.findings import Finding
from vit_jax.train import RunSettings, open_split

EXAMPLES = 2048


def look_at_input(settings: RunSettings, needed: float) -> Finding:
    """Runs the training pipeline of this host as the run would.

    Args:
      settings: of the run.
      needed: images per second over all hosts; 0 if nobody knows.

    Raises:
      UserError: the data cannot be opened.
    """
    from vit_jax.data import preview

    hosts, batch = parallel.process_count(), settings.train.batch_size
    dataset = open_split(settings, settings.data.train_split, "config.data.train_split")
    rows = np.arange(max(1, batch // hosts))
    measured = preview.measure(dataset, settings.seed, batch, rows, settings.data.prefetch, EXAMPLES)
    rate = measured.images_per_second
    numbers = {"images_per_second": rate, "images_per_cpu_second": measured.images_per_cpu_second}
    found = f"{settings.data.name} [{settings.data.train_split}]: {rate:,.0f} images/s on this host"
    if rate >= needed / hosts:
        return Finding("input", found, numbers=numbers)
    fix = f"{needed / hosts:,.0f} images/s are needed on each host: more CPU cores, or images stored at a smaller size"
    return Finding("input", found, fix, numbers)
