"""Pictures of a run's parameters while it goes on: `config.inspect`."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from vit_jax.data import Dataset
from vit_jax.errors import BadSetting
from vit_jax.inspect import OF_IMAGES, Album, pictures, spread_images, wanted
from vit_jax.models import Model, Params
from vit_jax.train.evaluations import open_split
from vit_jax.train.settings import RunSettings
from vit_jax.train.spans import in_steps


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Draws the parameters of a run.

    Attributes:
      model: of the run.
      mesh: of the job.
      dataset: whose images are looked at; None where no picture needs any.
      count: how many.
      only: kinds of pictures; none for all.
      every: how many steps, besides at the end.
    """

    model: Model
    mesh: Mesh
    dataset: Dataset | None
    count: int
    only: tuple[str, ...]
    every: int

    @functools.cached_property
    def _images(self) -> tuple[np.ndarray | None, list[str]]:
        return spread_images(self.dataset, self.count) if self.dataset else (None, [])

    def draw(self, params: Params, folder: Path, step: int) -> Album:
        """Writes the pictures of the parameters after `step`; all processes of a job call it. Reads images once."""
        images, names = self._images
        about = {"step": step}
        return pictures(self.model, params, images, folder, only=self.only, names=names, mesh=self.mesh, about=about)


def open_inspection(settings: RunSettings, model: Model, mesh: Mesh, examples: int, total: int) -> Inspection | None:
    """The pictures that `config.inspect` asks for; None for none. Their data is opened, nothing is read.

    Args:
      settings: of the run.
      model: of the run.
      mesh: of the job.
      examples: of the training split.
      total: steps of the run.

    Raises:
      BadSetting, UserError: the model has no such pictures, or the split cannot be opened.
    """
    about = settings.inspect
    if not about.every:
        return None
    try:
        kinds = wanted(model, about.only)
    except BadSetting as error:
        raise error.below("config.inspect") from None
    every = in_steps(settings, about.every, "config.inspect.every", examples, total)
    dataset = None
    if set(kinds) & set(OF_IMAGES):
        if settings.evaluate.split:
            dataset = open_split(settings, settings.evaluate.split, "config.evaluate.split")
        else:
            dataset = open_split(settings, settings.data.train_split, "config.data.train_split")
    return Inspection(model, mesh, dataset, about.images, about.only, every)
