"""What a model sees in pictures: the most probable classes of each."""

import dataclasses

import jax
import numpy as np

from vit_jax.checkpoint import Weights
from vit_jax.errors import UserError
from vit_jax.models import normalize

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One class of one image.

    Attributes:
      label: name of the class.
      probability: of the class, from 0 to 1.
    """

    label: str
    probability: float


def predict(weights: Weights, images: np.ndarray, top: int = 5) -> list[list[Prediction]]:
    """The `top` most probable classes of each image, best first.

    Args:
      weights: the model.
      images: uint8 (n, h, w, c), as the model's evaluation pre-processing makes them.
      top: how many classes; all if there are fewer.

    Raises:
      UserError: the model does not classify whole images.
    """
    model = weights.metadata.model
    if not model.classes or model.settings.pooling == "none":
        raise UserError(
            f"{str(weights.source)!r} does not classify images: it has no classifier, or one for each token"
        )
    apply = jax.jit(lambda p, x: model.apply(p, normalize(x))["logits"])
    params = jax.device_put(weights.params)
    parts = [apply(params, images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    logits = np.concatenate(parts)
    sigmoid = weights.metadata.config.get("train", {}).get("loss") == "sigmoid"
    probabilities = np.asarray(jax.nn.sigmoid(logits) if sigmoid else jax.nn.softmax(logits, axis=-1))
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]
    names = weights.metadata.label_names or tuple(f"class {i}" for i in range(model.classes))
    return [
        [Prediction(names[i], float(row[i])) for i in order] for row, order in zip(probabilities, best, strict=True)
    ]
