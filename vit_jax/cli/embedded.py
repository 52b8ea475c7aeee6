"""Embedded data sets, which every verb that reads data puts on the disk by itself: nothing is downloaded for them."""

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vit_jax.train import RunSettings


def prepare_embedded(settings: "RunSettings") -> None:
    """Prepares the embedded ones among the data sets of a run and its evaluators, on the main process of the job."""
    from vit_jax import data, parallel

    wanted = {(settings.data.name, settings.data.data_dir)}
    for about in settings.evaluators.values():
        wanted.add((about.name or about.task, about.data_dir or settings.data.data_dir))
    # TFDS talks, and a verb's own output may be JSON.
    with parallel.together(), contextlib.redirect_stdout(sys.stderr):
        for name, data_dir in sorted(wanted, key=str) if parallel.is_main() else ():
            data.prepare_embedded(name, data_dir)
