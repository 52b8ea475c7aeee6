"""The Vision Transformer and its hybrids (arXiv 2010.11929, section 3.1)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.corruption import Corruption
from vit_jax.models.encoder import run_blocks, stacked_blocks
from vit_jax.models.layers import (
    LECUN_NORMAL,
    TOKENS,
    Constrain,
    PatchEmbed,
    dropout,
    make_head,
    make_norm,
    split_key,
)
from vit_jax.models.map_head import MapHead
from vit_jax.models.posemb import INIT, Positions, TokenLayout, position_table, stacked_tables, table_shapes
from vit_jax.models.resnet import Trunk, trunk_channels
from vit_jax.models.settings import ModelSettings


class ViT(nnx.Module):
    """Images to named features; see `Model` in `vit_jax.models` for the calling convention.

    Parameter names: `trunk/...` (hybrids), `embedding/{kernel,bias}`, `cls`, `registers`, `mask_token`,
    `pos_embedding` (or the tables of other position embeddings; `positions/...` with a leading layer axis for those of
    every layer), `blocks/...` (leading layer axis), `norm`, `map_head`, `pre_logits`, `head`.
    """

    def __init__(self, settings: ModelSettings, grid: tuple[int, int], channels: int, classes: int, rngs: nnx.Rngs):
        shape, patch, trunk = settings.resolved.encoder, settings.resolved.patch, settings.resolved.trunk
        assert shape is not None
        dtype = jnp.dtype(settings.dtype)
        self.settings, self.shape, self.classes = settings, shape, classes
        self.sequence = TokenLayout.of(settings, grid)
        if trunk:
            self.trunk = Trunk(trunk, channels, dtype, rngs)
            channels = trunk_channels(trunk)
        self.embedding = PatchEmbed(patch, channels, shape.width, dtype, rngs)
        if self.sequence.cls:
            self.cls = nnx.Param(jnp.zeros((1, 1, shape.width), jnp.float32))
        if settings.registers:
            self.registers = nnx.Param(INIT(rngs.params(), (1, settings.registers, shape.width), jnp.float32))
        if settings.mask_token:
            self.mask_token = nnx.Param(INIT(rngs.params(), (1, 1, shape.width), jnp.float32))
        self._add_positions(rngs)
        self.blocks = stacked_blocks(shape, settings, rngs)
        self.norm = make_norm(shape.norm, shape.width, dtype, rngs, settings.norm_epsilon)
        if settings.pooling == "map":
            self.map_head = MapHead(shape, settings, rngs)
        if settings.pre_logits:
            self.pre_logits = nnx.Linear(shape.width, shape.width, kernel_init=LECUN_NORMAL, dtype=dtype, rngs=rngs)
        if classes:
            self.head = make_head(shape.width, classes, settings.head_bias, rngs)

    def _add_positions(self, rngs: nnx.Rngs) -> None:
        kind = self.settings.posemb
        if self.settings.posemb_at == "every_layer" and table_shapes(kind, self.sequence):
            self.positions = stacked_tables(kind, self.sequence, self.shape.depth, rngs)
        else:
            for name, shape in table_shapes(kind, self.sequence).items():
                setattr(self, name, nnx.Param(INIT(rngs.params(), shape, jnp.float32)))

    def __call__(
        self,
        images: jax.Array,
        dropout_key: jax.Array | None,
        constrain: Constrain,
        *,
        corruption: Corruption | None = None,
        blocks: bool = False,
        attention: bool | Callable[[jax.Array], Any] = False,
    ) -> dict[str, Any]:
        """(b, h, w, c) float images in [-1, 1] -> features by name, see `Model.apply`."""
        settings = self.settings
        features: dict[str, Any] = {}
        key_stem, key_patches, key_blocks, key_head = split_key(dropout_key, 4)
        if settings.resolved.trunk:
            if corruption is not None:
                images = corruption.apply_to_pixels(images, self.sequence.grid)
            outputs: list[jax.Array] | None = [] if blocks else None
            images = self.trunk(images, constrain, scan=settings.scan, remat=settings.remat, outputs=outputs)
            if outputs is not None:
                features["trunk"] = tuple(outputs)
        x = constrain(self.embedding(images), ("batch", "tokens", "patch_embed"))
        x = features["stem"] = constrain(x, TOKENS)
        if corruption is not None:
            replace = corruption.mask if settings.resolved.trunk else corruption.apply
            x = constrain(replace(x, self.mask_token[...]), TOKENS)
        x = self._drop_patches(dropout(self._sequence(x, constrain), settings.dropout, key_stem), key_patches)
        x, outs, weights = run_blocks(
            self.blocks,
            x,
            key_blocks,
            constrain,
            shape=self.shape,
            settings=settings,
            grid=self.sequence.grid,
            positions=self._positions(),
            outputs=blocks,
            weights=attention,
        )
        if outs is not None:
            features["blocks"] = tuple(outs)
        if weights is not None:
            features["attention"] = weights if callable(attention) else tuple(weights)
        features["tokens"] = self.norm(x)
        # Of one token, so that the norm of the others is no work where nobody asks for it.
        x = self.norm(x[:, :1]) if settings.pooling == "token" else features["tokens"]
        x = self._pool(x, key_head, constrain)
        x = constrain(x, ("batch", "embed") if x.ndim == 2 else TOKENS)
        if settings.pre_logits:
            x = jnp.tanh(self.pre_logits(x))
        features["pre_logits"] = x
        if self.classes:
            names = ("batch", "classes") if x.ndim == 2 else ("batch", "tokens", "classes")
            features["logits"] = constrain(self.head(x), names)
        return features

    def _positions(self) -> Positions:
        settings = self.settings
        tables = self.positions if hasattr(self, "positions") else self
        return Positions(settings.posemb, settings.posemb_at, self.sequence, tables, self.shape.depth)

    def _sequence(self, patches: jax.Array, constrain: Constrain) -> jax.Array:
        """Patch embeddings -> [class token, registers, patches] with what the stem adds."""
        parts = [patches]
        for name in ("registers", "cls"):  # the class token ends up in front
            if hasattr(self, name):
                token = getattr(self, name)[...].astype(patches.dtype)
                parts.insert(0, jnp.broadcast_to(token, (patches.shape[0], *token.shape[1:])))
        x = jnp.concatenate(parts, axis=1) if len(parts) > 1 else patches
        if self.settings.posemb_at == "stem":
            table = position_table(self.settings.posemb, self, self.sequence)
            x = x if table is None else x + table.astype(x.dtype)
        return constrain(x, TOKENS)

    def _drop_patches(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """Keeps the tokens in front and a random share of the patches, another for each image, in their order."""
        if key is None or not self.settings.patch_dropout:
            return x
        front, patches = x.shape[1] - self.sequence.patches, self.sequence.patches
        kept = max(1, round(patches * (1.0 - self.settings.patch_dropout)))
        order = jnp.argsort(jax.random.uniform(key, (x.shape[0], patches)), axis=1)[:, :kept]
        chosen = jnp.take_along_axis(x[:, front:], jnp.sort(order, axis=1)[..., None], axis=1)
        return jnp.concatenate([x[:, :front], chosen], axis=1)

    def _pool(self, x: jax.Array, key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """(b, n, d) -> (b, d), or (b, patches, d) for `none`."""
        patches = x[:, self.sequence.cls + self.sequence.registers :]
        match self.settings.pooling:
            case "token":
                return x[:, 0]
            case "gap":
                return patches.mean(axis=1)
            case "map":
                return self.map_head(patches, key, constrain)
            case "first":
                return patches[:, 0]
            case _:
                return patches
