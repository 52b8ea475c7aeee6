"""Position embeddings: those of the paper (appendix D.4), at the stem or in the layers, and the fixed sine-cosine."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vit_jax.models import stack
from vit_jax.models.settings import ModelSettings

INIT = nnx.initializers.normal(stddev=0.02)


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """How the tokens lie: [class token, registers, patches in raster order].

    Attributes:
      grid: (height, width) of the patches.
      cls: 1 with a class token, else 0.
      registers: number of them.
      width: of the embedding.
      head_dim: of the attention heads.
    """

    grid: tuple[int, int]
    cls: int
    registers: int
    width: int
    head_dim: int

    @staticmethod
    def of(settings: ModelSettings, grid: tuple[int, int]) -> "TokenLayout":
        """Of a ViT or hybrid with this grid of patches."""
        shape = settings.resolved.encoder
        assert shape is not None
        cls = int(settings.has_class_token)
        return TokenLayout(grid, cls, settings.registers, shape.width, shape.width // shape.heads)

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def length(self) -> int:
        """Number of all tokens."""
        return self.cls + self.registers + self.patches


class Tables(nnx.Module):
    """The learned tables of one place. `kind` decides which exist:

    `learned_1d`: `pos_embedding` (1, cls + patches, d), the class token's row first. `learned_2d`: `pos_embedding_y`
    (h, d/2) and `pos_embedding_x` (w, d/2). `relative`: `relative_embedding` (2n - 1, e). Others: none.
    """

    def __init__(self, kind: str, sequence: TokenLayout, rngs: nnx.Rngs):
        for name, shape in table_shapes(kind, sequence).items():
            setattr(self, name, nnx.Param(INIT(rngs.params(), shape, jnp.float32)))


def table_shapes(kind: str, sequence: TokenLayout) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the learned tables of `kind`, see `Tables`."""
    (height, side), half = sequence.grid, sequence.width // 2
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "learned_1d": {"pos_embedding": (1, sequence.cls + sequence.patches, sequence.width)},
        "learned_2d": {"pos_embedding_y": (height, half), "pos_embedding_x": (side, half)},
        "relative": {"relative_embedding": (2 * sequence.length - 1, sequence.head_dim)},
    }
    return shapes.get(kind, {})


def stacked_tables(kind: str, sequence: TokenLayout, depth: int, rngs: nnx.Rngs) -> Tables:
    """One `Tables` a layer, with a leading layer axis."""
    return stack.stacked(lambda rngs: Tables(kind, sequence, rngs), depth, rngs)


def position_table(kind: str, tables: Any, sequence: TokenLayout) -> jax.Array | None:
    """What is added to the sequence: (1, n, d) float32, or None for `relative` and `none`.

    Registers have no position, and the class token has one with `learned_1d` only.
    """
    cls, registers, width, grid = sequence.cls, sequence.registers, sequence.width, sequence.grid
    if kind == "learned_1d":
        table = tables.pos_embedding[...]
        return jnp.concatenate([table[:, :cls], jnp.zeros((1, registers, width)), table[:, cls:]], axis=1)
    if kind == "learned_2d":
        x = jnp.broadcast_to(tables.pos_embedding_x[...][None, :], (*grid, width // 2))
        y = jnp.broadcast_to(tables.pos_embedding_y[...][:, None], (*grid, width // 2))
        patches = jnp.concatenate([x, y], axis=-1)
    elif kind == "sincos_2d":
        patches = jnp.asarray(sincos_2d(grid, width))
    else:
        return None
    return jnp.pad(patches.reshape(1, -1, width), ((0, 0), (cls + registers, 0), (0, 0)))


def sincos_2d(grid: tuple[int, int], width: int, temperature: float = 10_000.0) -> np.ndarray:
    """(h, w, d) float32: sin and cos of x, then of y, at d/4 frequencies from 1 down to 1/temperature (MoCo v3)."""
    quarter = width // 4
    frequencies = temperature ** -(np.arange(quarter) / max(quarter - 1, 1))
    y, x = (positions[..., None] * frequencies for positions in np.mgrid[: grid[0], : grid[1]])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=-1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Positions:
    """What the layers of a call know of positions, beyond what the stem added.

    Attributes:
      kind: as `ModelSettings.posemb`.
      at: as `ModelSettings.posemb_at`.
      sequence: how the tokens lie.
      tables: the learned ones: of the whole model, or stacked for `every_layer`.
      depth: layers.
    """

    kind: str
    at: str
    sequence: TokenLayout
    tables: Any
    depth: int

    @property
    def by_layer(self) -> tuple[Any, jax.Array]:
        """What differs from layer to layer, for `stack.run`: own tables, and the share of relative logits used."""
        first_only = self.kind == "relative" and self.at == "stem"
        share = (jnp.arange(self.depth) == 0) if first_only else jnp.ones((self.depth,))
        own = self.at == "every_layer" and table_shapes(self.kind, self.sequence)
        return (self.tables if own else None), share.astype(jnp.float32)

    def of_layer(self, layer: tuple[Any, jax.Array]) -> tuple[jax.Array | None, jax.Array | None]:
        """From one layer's part of `by_layer`: (what is added to its input, its relative keys), each or None."""
        own, share = layer
        tables = self.tables if own is None else own
        if self.kind == "relative":
            return None, tables.relative_embedding[...] * share
        return (None if self.at == "stem" else position_table(self.kind, tables, self.sequence)), None
