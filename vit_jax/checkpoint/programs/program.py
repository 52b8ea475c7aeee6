"""What the exports of programs share: the function, the comparison with the model, the folder that appears whole."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vit_jax.checkpoint.card import write_card, write_preprocessing
from vit_jax.checkpoint.files import new_folder
from vit_jax.checkpoint.metadata import Metadata
from vit_jax.errors import UserError
from vit_jax.models import Model, Params
from vit_jax.trees import named_leaves, nested

# That the exported programs are lowered for.
PLATFORMS = ("cpu", "cuda", "tpu")

# Largest difference of the written program's logits from the model's, as a share of the largest logit.
TOLERANCE = 1e-4
_IMAGES = 2


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, as `jax.jit` wants
class Program:
    """The function that is exported, and its weights.

    Attributes:
      metadata: of the model as it was trained.
      model: the same in float32 and with plain attention, which every converter understands.
      weights: float32 arrays on the host by parameter name.
    """

    metadata: Metadata
    model: Model
    weights: dict[str, np.ndarray]

    @staticmethod
    def of(params: Params, metadata: Metadata, **changes: Any) -> "Program":
        """The program of `params`.

        Args:
          params: arrays that this process can read whole.
          metadata: describes them.
          **changes: model settings that a converter needs otherwise. Biases that they add are 0.

        Raises:
          UserError: the model has no classifier.
        """
        model = metadata.model
        if not model.classes:
            raise UserError(f"{model.settings.variant} has no classifier (classes = 0): exported programs give logits")
        if model.settings.resolved.encoder:
            changes["attention"] = "plain"
        settings = dataclasses.replace(model.settings, dtype="float32", remat="none", **changes)
        model = dataclasses.replace(model, settings=settings)
        weights = {name: np.asarray(leaf, np.float32) for name, leaf in named_leaves(params).items()}
        for name in model.shapes.keys() - metadata.model.shapes.keys():
            weights[name] = np.zeros(model.shapes[name], np.float32)
        return Program(metadata, model, weights)

    def __call__(self, weights: dict[str, Any], images: Any) -> jax.Array:
        """Logits of float32 images (b, h, w, c) in [-1, 1]."""
        return self.model.apply(nested(weights), images)["logits"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c)."""
        return (*self.model.image_size, self.model.channels)

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """Two random images and the model's logits."""
        uniform = np.random.default_rng(0).uniform(-1, 1, (_IMAGES, *self.image_shape))
        images = uniform.astype(np.float32)
        return images, np.asarray(jax.jit(self)(self.weights, images))


def publish(
    program: Program,
    path: Path,
    form: str,
    write: Callable[[Path], None],
    run: Callable[[Path, np.ndarray], np.ndarray],
) -> list[Path]:
    """Writes a program, runs what was written, and lets the folder appear if it gives the model's logits.

    Args:
      program: what to export.
      path: the folder to make.
      form: of the card, see `write_card`.
      write: puts the program's files into a folder.
      run: reads them back: (folder, images) -> logits.

    Returns:
      All files of the folder.

    Raises:
      UserError: the folder is not empty or cannot be written, or the logits differ; nothing is left behind.
    """
    with new_folder(Path(path)) as folder, _on_cpu():
        write(folder)
        images, wanted = program.example()
        found = run(folder, images)
        # Relative to what the features make of the logits: a large bias would hide any error.
        scale = float(np.abs(wanted - program.weights["head/bias"]).max())
        if not scale:
            fix = "its classifier is all zeros, whatever the image: train it first"
            raise UserError(f"{form} export to {str(path)!r} cannot be checked: {fix}")
        difference = float(np.abs(found - wanted).max()) / scale
        if not difference <= TOLERANCE:  # so that NaN is refused as well
            fix = f"differ by {difference:.1e} (relative; at most {TOLERANCE:.0e} is accepted)"
            raise UserError(f"{form} export to {str(path)!r}: its logits and the model's {fix}; nothing was written")
        write_preprocessing(folder, program.metadata)
        write_card(folder, program.metadata, _files(folder), form)
    return _files(Path(path))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _on_cpu() -> contextlib.AbstractContextManager:
    """Compares in full float32: accelerators multiply in less by default."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        raise UserError(
            "exports are compared on the CPU, which JAX was told to leave out: add cpu to JAX_PLATFORMS"
        ) from None
