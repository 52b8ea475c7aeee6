"""The Vision Transformer (arXiv 2010.11929, section 3.1)."""

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.encoder import run_blocks, stacked_blocks
from vit_jax.models.layers import (
    LECUN_NORMAL,
    POSITION_INIT,
    TOKENS,
    Constrain,
    PatchEmbed,
    dropout,
    layer_norm,
    split_key,
)
from vit_jax.models.settings import ModelSettings

HEAD_INIT = nnx.initializers.zeros_init()


class ViT(nnx.Module):
    """Images to named features; see `Model` in `vit_jax.models` for the calling convention.

    Parameter names: `embedding/{kernel,bias}`, `cls`, `pos_embedding`, `blocks/...` (leading layer axis), `norm`,
    `pre_logits`, `head`.
    """

    def __init__(
        self, settings: ModelSettings, image_size: tuple[int, int], channels: int, classes: int, rngs: nnx.Rngs
    ):
        shape, patch = settings.encoder, settings.patch
        dtype = jnp.dtype(settings.dtype)
        self.settings = settings
        self.embedding = PatchEmbed(patch, channels, shape.width, dtype, rngs)
        tokens = (image_size[0] // patch) * (image_size[1] // patch)
        if settings.pool == "token":
            self.cls = nnx.Param(jnp.zeros((1, 1, shape.width), jnp.float32))
            tokens += 1
        self.pos_embedding = nnx.Param(POSITION_INIT(rngs.params(), (1, tokens, shape.width), jnp.float32))
        self.blocks = stacked_blocks(shape, settings.dropout, dtype, rngs)
        self.norm = layer_norm(shape.width, dtype, rngs)
        if settings.pre_logits:
            self.pre_logits = nnx.Linear(shape.width, shape.width, kernel_init=LECUN_NORMAL, dtype=dtype, rngs=rngs)
        bias_init = nnx.initializers.constant(settings.head_bias)
        # In float32 whatever the compute dtype: bfloat16 logits tie, and losses and ranks feel it.
        self.head = nnx.Linear(
            shape.width, classes, kernel_init=HEAD_INIT, bias_init=bias_init, dtype=jnp.float32, rngs=rngs
        )

    def __call__(self, images: jax.Array, dropout_key: jax.Array | None, constrain: Constrain) -> dict[str, jax.Array]:
        """(b, h, w, c) float images in [-1, 1] -> features by name, see `Model.apply`."""
        settings = self.settings
        features = {}
        key_stem, key_blocks = split_key(dropout_key, 2)
        x = features["stem"] = constrain(self.embedding(images), TOKENS)
        if settings.pool == "token":
            cls = jnp.broadcast_to(self.cls[...].astype(x.dtype), (x.shape[0], 1, x.shape[2]))
            x = jnp.concatenate([cls, x], axis=1)
        x = constrain(x + self.pos_embedding[...].astype(x.dtype), TOKENS)
        x = dropout(x, settings.dropout, key_stem)
        depth = settings.encoder.depth
        x = run_blocks(self.blocks, depth, x, key_blocks, constrain, scan=settings.scan, remat=settings.remat)
        x = features["tokens"] = self.norm(x)
        x = x[:, 0] if settings.pool == "token" else x.mean(axis=1)
        if settings.pre_logits:
            x = jnp.tanh(self.pre_logits(x))
        features["pre_logits"] = x
        features["logits"] = constrain(self.head(x), ("batch", "classes"))
        return features
