"""What of a data set decides the compiled program and the length of a run, known with or without the data."""

import dataclasses

from vit_jax.data import Dataset, catalog
from vit_jax.errors import UserError
from vit_jax.train.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Of the split that a run trains on.

    Attributes:
      examples: in one epoch.
      classes: that labels count.
      multi_label: an image may have any number of labels: float32 (classes,) in place of one int32.
    """

    examples: int
    classes: int
    multi_label: bool = False


def facts_of(dataset: Dataset) -> DataFacts:
    """The facts of a data set that is open."""
    return DataFacts(dataset.size, len(dataset.label_names), dataset.multi_label)


def known_facts(settings: RunSettings) -> DataFacts | None:
    """The facts of the catalog's task, or None where the config changes what it trains on or the catalog does not know.

    Raises:
      UserError: the task has no training images.
    """
    about, task = settings.data, catalog.TASKS.get(settings.data.task)
    if task is None or (about.stage, about.subset) != ("final", None) or about.train_split != task.train:
        return None
    if not about.train_split:
        raise UserError(f"config.data.task = {about.task!r}: has no training images; train on another")
    return DataFacts(task.examples, task.classes, task.label_key == "labels") if task.examples else None
