"""What position embeddings have learned of space: how alike those of any two places are."""

from types import SimpleNamespace

import numpy as np

from vit_jax.models import Model, Params, TokenLayout, position_table


def position_parameters(model: Model) -> tuple[str, ...]:
    """Names of the parameters that `position_embeddings` reads."""
    return tuple(name for name in model.shapes if "pos_embedding" in name or "relative_embedding" in name)


def position_embeddings(model: Model, params: Params, layer: int = 0) -> np.ndarray:
    """The embeddings of one place, without those of class token and registers.

    Args:
      model: whose `posemb` is not `none`.
      params: its parameters.
      layer: counted from 0; it matters only where every layer has its own.

    Returns:
      (h, w, d) of the patches; for `relative` (2n - 1, e) of the offsets 1 - n to n - 1 in raster order.
    """
    settings = model.settings
    tables = params
    if settings.posemb_at == "every_layer" and "positions" in params:
        tables = {name: table[layer] for name, table in params["positions"].items()}
    if settings.posemb == "relative":
        return np.asarray(tables["relative_embedding"])
    layout = TokenLayout.of(settings, model.grid)
    table = np.asarray(position_table(settings.posemb, SimpleNamespace(**tables), layout))
    return table[0, -layout.patches :].reshape(*model.grid, -1)


def cosine_similarity(embeddings: np.ndarray) -> np.ndarray:
    """Of each embedding with each (paper, figure 7 centre); 0 with one that is zero.

    Args:
      embeddings: (..., d); (h, w, d) for a grid.

    Returns:
      float32 (..., ...): both places, for a grid (h, w, h, w).
    """
    places = embeddings.shape[:-1]
    flat = embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float64)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(float).tiny)
    return (unit @ unit.T).astype(np.float32).reshape(*places, *places)
