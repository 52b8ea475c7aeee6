"""What there is to draw of a model, and which of it is wanted."""

from collections.abc import Sequence

import numpy as np

from vit_jax.errors import BadSetting, did_you_mean
from vit_jax.models import Model

KINDS = ("filters", "positions", "distance", "rollout", "heads")
OF_IMAGES = ("distance", "rollout", "heads")
_LAYERS = 4  # drawn where none are chosen


def absent(model: Model) -> dict[str, str]:
    """{kind: why there is nothing to draw}, for this model."""
    settings = model.settings
    if settings.resolved.encoder is None:
        why = f"{settings.variant} is a ResNet: it has no"
        return {
            kind: f"{why} {'position embeddings' if kind == 'positions' else 'attention'}"
            for kind in ("positions", *OF_IMAGES)
        }
    found = {}
    if settings.posemb == "none":
        found["positions"] = "the model has no position embeddings"
    if settings.axial:
        found |= dict.fromkeys(OF_IMAGES, "the blocks are axial: none attends to all patches")
    return found


def wanted(model: Model, only: Sequence[str] = ()) -> tuple[str, ...]:
    """The kinds to draw, in the order of the page: those in `only`, or all that the model has.

    Raises:
      BadSetting: `only` names no kind, or one that the model does not have.
    """
    missing = absent(model)
    for kind in only:
        if kind not in KINDS:
            raise BadSetting("only", kind, f"no such pictures; {did_you_mean(kind, KINDS)}")
        if kind in missing:
            raise BadSetting("only", kind, missing[kind])
    return tuple(kind for kind in KINDS if (kind in only or not only) and kind not in missing)


def check_layers(model: Model, layers: Sequence[int]) -> tuple[int, ...]:
    """Layers counted from 1 as indices; by default up to four, evenly spread from the first to the last.

    Raises:
      BadSetting: the model has no such layer.
    """
    encoder = model.settings.resolved.encoder
    depth = encoder.depth if encoder else 0
    wrong = [layer for layer in layers if not 1 <= layer <= depth]
    if wrong:
        fix = f"the encoder's layers are 1 to {depth}" if depth else f"{model.settings.variant} has no encoder"
        raise BadSetting("layers", wrong[0], fix)
    if layers:
        return tuple(layer - 1 for layer in layers)
    return tuple(spread(depth, _LAYERS).tolist())


def spread(size: int, count: int) -> np.ndarray:
    """At most `count` of the numbers 0 to size - 1, ascending, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, max(size - 1, 0), min(size, count)).round().astype(np.int64))
