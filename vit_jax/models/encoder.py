"""The transformer encoder: identical blocks stacked along a leading layer axis."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models import stack
from vit_jax.models.attention import Attention
from vit_jax.models.layers import TOKENS, XAVIER_UNIFORM, Constrain, drop_path, dropout, make_norm, split_key
from vit_jax.models.posemb import Positions
from vit_jax.models.settings import ModelSettings
from vit_jax.models.variants import EncoderShape

MLP_BIAS_INIT = nnx.initializers.normal(stddev=1e-6)


class Mlp(nnx.Module):
    """Dense(mlp) -> GELU -> Dense(embed), dropout after each dense layer."""

    def __init__(self, shape: EncoderShape, settings: ModelSettings, rngs: nnx.Rngs):
        self.dropout_rate, self.tanh = settings.dropout, settings.gelu == "tanh"
        self.keeps_all, self.scan = settings.remat == "none", settings.scan
        options: dict[str, Any] = {
            "kernel_init": XAVIER_UNIFORM,
            "bias_init": MLP_BIAS_INIT,
            "dtype": jnp.dtype(settings.dtype),
            "rngs": rngs,
        }
        self.dense1 = nnx.Linear(shape.width, shape.mlp_dim, **options)
        self.dense2 = nnx.Linear(shape.mlp_dim, shape.width, **options)

    def __call__(self, x: jax.Array, dropout_key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """(b, n, d) -> (b, n, d)."""
        key1, key2 = split_key(dropout_key, 2)

        def hidden(dense1: nnx.Linear, x: jax.Array) -> jax.Array:
            return jax.nn.gelu(constrain(dense1(x), ("batch", "tokens", "mlp")), approximate=self.tanh)

        # Its widest arrays: where all else is kept, backward makes the GELU's slope again rather than read it. XLA for
        # TPUs sees to that itself where blocks are unrolled, and what is kept apart is not fused with the product.
        again = "dots" if self.keeps_all and (self.scan or constrain.platform != "tpu") else "none"
        x = dropout(stack.rematerialized(hidden, again)(self.dense1, x), self.dropout_rate, key1)
        return dropout(constrain(self.dense2(x), TOKENS), self.dropout_rate, key2)


class Block(nnx.Module):
    """x + Attention(LN(x)), then x + Mlp(LN(x)) (paper, equations 2 and 3); side by side if `shape.parallel`."""

    def __init__(self, shape: EncoderShape, settings: ModelSettings, rngs: nnx.Rngs):
        dtype = jnp.dtype(settings.dtype)
        self.parallel, self.settings = shape.parallel, settings
        self.norm1 = make_norm(shape.norm, shape.width, dtype, rngs, settings.norm_epsilon)
        self.attn = Attention(shape, settings, rngs)
        if not shape.parallel:
            self.norm2 = make_norm(shape.norm, shape.width, dtype, rngs, settings.norm_epsilon)
        self.mlp = Mlp(shape, settings, rngs)
        if settings.layer_scale:
            self.scale1 = nnx.Param(jnp.full((shape.width,), settings.layer_scale, jnp.float32))
            self.scale2 = nnx.Param(jnp.full((shape.width,), settings.layer_scale, jnp.float32))

    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        drop_rate: jax.Array | float,
        constrain: Constrain,
        *,
        offsets: jax.Array | None = None,
        weights: bool = False,
        per_image: int = 1,
    ) -> tuple[jax.Array, jax.Array | None]:
        """(b, n, d) -> (b, n, d) and, on request, the attention weights (b, k, n, n).

        Args:
          x: tokens.
          key: of all dropout of this block; None in evaluation.
          drop_rate: of stochastic depth in this layer.
          constrain: shards activations.
          offsets: of relative position embeddings, see `Attention`.
          weights: whether to return attention weights.
          per_image: sequences of each image, consecutive in the batch; stochastic depth treats them alike.
        """
        key_weights, key_out, key_mlp, key_path1, key_path2 = split_key(key, 5)
        y = self.norm1(x)
        attended, found = self.attn(y, key_weights, constrain, offsets=offsets, weights=weights)
        attended = dropout(attended, self.settings.dropout, key_out)
        x = x + self._residual(attended, "scale1", drop_rate, key_path1, per_image)
        y = self.mlp(y if self.parallel else self.norm2(x), key_mlp, constrain)
        x = x + self._residual(y, "scale2", drop_rate, key_path2, per_image)
        return constrain(x, TOKENS), found

    def _residual(
        self, branch: jax.Array, scale: str, drop_rate: jax.Array | float, key: jax.Array | None, per_image: int
    ) -> jax.Array:
        if self.settings.layer_scale:
            branch = branch * getattr(self, scale)[...].astype(branch.dtype)
        return drop_path(branch, drop_rate, key, per_image) if self.settings.stochastic_depth else branch


class AxialBlock(nnx.Module):
    """A `Block` along the rows, then one along the columns (paper, appendix D.6)."""

    def __init__(self, shape: EncoderShape, settings: ModelSettings, rngs: nnx.Rngs):
        self.row = Block(shape, settings, rngs)
        self.column = Block(shape, settings, rngs)

    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        drop_rate: jax.Array | float,
        constrain: Constrain,
        grid: tuple[int, int],
    ) -> jax.Array:
        """(b, h*w, d) -> (b, h*w, d)."""
        (b, n, d), (h, w) = x.shape, grid
        key_row, key_column = split_key(key, 2)
        x, _ = self.row(x.reshape(b * h, w, d), key_row, drop_rate, constrain, per_image=h)
        x = x.reshape(b, h, w, d).swapaxes(1, 2).reshape(b * w, h, d)
        x, _ = self.column(x, key_column, drop_rate, constrain, per_image=w)
        return constrain(x.reshape(b, w, h, d).swapaxes(1, 2).reshape(b, n, d), TOKENS)


def stacked_blocks(shape: EncoderShape, settings: ModelSettings, rngs: nnx.Rngs) -> Block | AxialBlock:
    """`shape.depth` blocks as one whose parameters have a leading layer axis."""
    make = AxialBlock if settings.axial else Block
    return stack.stacked(lambda rngs: make(shape, settings, rngs), shape.depth, rngs)


def run_blocks(
    blocks: Block | AxialBlock,
    x: jax.Array,
    key: jax.Array | None,
    constrain: Constrain,
    *,
    shape: EncoderShape,
    settings: ModelSettings,
    grid: tuple[int, int],
    positions: Positions,
    outputs: bool = False,
    weights: bool | Callable[[jax.Array], Any] = False,
) -> tuple[jax.Array, jax.Array | None, Any]:
    """Applies the stacked blocks in order.

    Args:
      blocks: from `stacked_blocks`.
      x: (b, n, d) tokens.
      key: split into one a layer; None in evaluation.
      constrain: shards activations.
      shape: of the encoder.
      settings: of the model.
      grid: (height, width) of the patches.
      positions: what the layers know of positions, beyond what the stem added.
      outputs: whether to return the output of every block.
      weights: whether to return the attention weights of every block, or what to return of them.

    Returns:
      (b, n, d) tokens; (layers, b, n, d) outputs or None; (layers, b, k, n, n) float32 weights or None. If `weights`
      is a function of one block's (b, k, n, n), the arrays it gives, stacked along a leading layer axis.
    """

    def apply(x: jax.Array, layer: dict[str, Any]) -> tuple[jax.Array, tuple[jax.Array | None, jax.Array | None]]:
        block = layer["block"]
        added, offsets = positions.of_layer(layer["positions"])
        if added is not None:
            x = x + added.astype(x.dtype)
        if isinstance(block, AxialBlock):
            x, found = block(x, layer["key"], layer["drop_rate"], constrain, grid), None
        else:
            x, found = block(x, layer["key"], layer["drop_rate"], constrain, offsets=offsets, weights=bool(weights))
            if found is not None and callable(weights):
                found = weights(found)
        return x, (x if outputs else None, found)

    layers = {
        "block": blocks,
        "positions": positions.by_layer,
        "key": None if key is None else jax.random.split(key, shape.depth),
        "drop_rate": jnp.linspace(0.0, settings.stochastic_depth, shape.depth),
    }
    if constrain.platform == "tpu" and not settings.scan:
        # Else XLA puts the batch after the tokens and copies around attention: 3 layers of B/16 on v5e, 6.0 -> 4.9 GB.
        x = constrain.in_order(x, TOKENS)
    x, (found, attention) = stack.run(apply, x, layers, shape.depth, scan=settings.scan, remat=settings.remat)
    return x, found, attention
