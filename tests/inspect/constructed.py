"""Models whose attention is known: each token is a unit vector of its own, and queries ask for chosen ones."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vit_jax.models import Model, ModelSettings, TokenLayout

HEADS, HEAD_DIM, WIDTH = 2, 24, 48

# For each query, the token it attends to; None for uniform attention.
Target = Sequence[int] | None


def make(size: tuple[int, int] = (8, 12), depth: int = 2, **options: Any) -> Model:
    """A ViT of patches of 4 pixels, two heads, up to 24 tokens; 2 x 3 patches by default."""
    shape = {"width": WIDTH, "heads": HEADS, "mlp_dim": 8, "depth": depth, "patch": 4}
    return Model(ModelSettings(**{"variant": "mu/4", **shape, **options}), size, 3, 5)


def front(model: Model) -> int:
    """Tokens before the patches."""
    return model.tokens - model.grid[0] * model.grid[1]


def attending(model: Model, targets: Sequence[Sequence[Target]], sharpness: float = 10.0) -> dict[str, Any]:
    """Parameters with which head h of layer l attends from token i to token `targets[l][h][i]`, whatever the image.

    Tokens do not see the image: token i is the unit vector i plus nothing. Queries are `sharpness` times the unit
    vector of their target, keys the token's own, values nothing, so that no layer changes a token.
    """
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), model.abstract_params)
    layout, units = TokenLayout.of(model.settings, model.grid), np.eye(WIDTH, dtype=np.float32)
    before = layout.cls + layout.registers
    own = units[before : before + layout.patches]
    params["pos_embedding"][0] = np.concatenate([units[: layout.cls], own])
    if layout.registers:
        params["registers"][0] = units[layout.cls : before]
    params["blocks"]["norm1"]["scale"][...] = 1.0
    for layer, heads in enumerate(targets):
        for head, target in enumerate(heads):
            for j in range(layout.length):
                params["blocks"]["attn"]["key"]["kernel"][layer, j, head, j] = 1.0
            for i, j in enumerate(() if target is None else target):
                params["blocks"]["attn"]["query"]["kernel"][layer, i, head, j] = sharpness
    return params


def images(model: Model, number: int) -> np.ndarray:
    """uint8 noise."""
    shape = (number, *model.image_size, model.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def shifted(model: Model, rows: int, columns: int) -> list[int]:
    """Each patch attends to the one so far below and right of it, or above and left where there is none."""
    (height, width), first = model.grid, front(model)
    result = list(range(first))
    for row in range(height):
        for column in range(width):
            r = row + rows if row + rows < height else row - rows
            c = column + columns if column + columns < width else column - columns
            result.append(first + r * width + c)
    return result


def cell_distances(model: Model, pixels: int) -> np.ndarray:
    """(patches, patches) distances in pixels, one pair at a time."""
    cells = [(row, column) for row in range(model.grid[0]) for column in range(model.grid[1])]
    return np.array([[pixels * ((a - c) ** 2 + (b - d) ** 2) ** 0.5 for c, d in cells] for a, b in cells])
