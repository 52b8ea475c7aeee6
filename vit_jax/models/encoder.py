"""The pre-norm transformer encoder: identical blocks stacked along a leading layer axis."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.attention import Attention
from vit_jax.models.layers import TOKENS, XAVIER_UNIFORM, Constrain, dropout, layer_norm, split_key
from vit_jax.models.variants import EncoderShape

MLP_BIAS_INIT = nnx.initializers.normal(stddev=1e-6)

REMAT_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Mlp(nnx.Module):
    """Dense(mlp) -> GELU (tanh form, as in the released models) -> Dense(embed), dropout after each dense layer."""

    def __init__(self, width: int, mlp_dim: int, dropout_rate: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dropout_rate = dropout_rate
        options: dict[str, Any] = {
            "kernel_init": XAVIER_UNIFORM,
            "bias_init": MLP_BIAS_INIT,
            "dtype": dtype,
            "rngs": rngs,
        }
        self.dense1 = nnx.Linear(width, mlp_dim, **options)
        self.dense2 = nnx.Linear(mlp_dim, width, **options)

    def __call__(self, x: jax.Array, dropout_key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """(b, n, d) -> (b, n, d)."""
        key1, key2 = split_key(dropout_key, 2)
        x = constrain(self.dense1(x), ("batch", "tokens", "mlp"))
        x = dropout(jax.nn.gelu(x, approximate=True), self.dropout_rate, key1)
        return dropout(constrain(self.dense2(x), TOKENS), self.dropout_rate, key2)


class Block(nnx.Module):
    """x + Attention(LN(x)), then x + Mlp(LN(x)) (paper, equations 2 and 3)."""

    def __init__(self, shape: EncoderShape, dropout_rate: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dropout_rate = dropout_rate
        self.norm1 = layer_norm(shape.width, dtype, rngs)
        self.attn = Attention(shape.width, shape.heads, dtype, rngs)
        self.norm2 = layer_norm(shape.width, dtype, rngs)
        self.mlp = Mlp(shape.width, shape.mlp_dim, dropout_rate, dtype, rngs)

    def __call__(self, x: jax.Array, dropout_key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """(b, n, d) -> (b, n, d)."""
        key1, key2 = split_key(dropout_key, 2)
        x = x + dropout(self.attn(self.norm1(x), constrain), self.dropout_rate, key1)
        return constrain(x + self.mlp(self.norm2(x), key2, constrain), TOKENS)


def stacked_blocks(shape: EncoderShape, dropout_rate: float, dtype: jnp.dtype, rngs: nnx.Rngs) -> Block:
    """`shape.depth` blocks as one Block whose parameters have a leading layer axis."""

    @nnx.split_rngs(splits=shape.depth)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs: nnx.Rngs) -> Block:
        return Block(shape, dropout_rate, dtype, rngs)

    return make(rngs)


def run_blocks(
    blocks: Block,
    depth: int,
    x: jax.Array,
    dropout_key: jax.Array | None,
    constrain: Constrain,
    *,
    scan: bool,
    remat: str,
) -> jax.Array:
    """Applies the stacked blocks in order, (b, n, d) -> (b, n, d).

    Args:
      blocks: from `stacked_blocks`.
      depth: the number of layers.
      x: tokens.
      dropout_key: split into one key a layer; None in evaluation.
      constrain: shards activations.
      scan: loop in the compiled program; otherwise unrolled, same numbers.
      remat: `none`, `dots` or `full`, see `ModelSettings`.
    """

    def apply(x: jax.Array, layer: tuple[Block, jax.Array | None]) -> jax.Array:
        block, key = layer
        return block(x, key, constrain)

    if remat != "none":
        apply = jax.checkpoint(apply, policy=REMAT_POLICIES[remat], prevent_cse=not scan)
    keys = None if dropout_key is None else jax.random.split(dropout_key, depth)
    if scan:
        return jax.lax.scan(lambda x, layer: (apply(x, layer), None), x, (blocks, keys))[0]
    for i in range(depth):
        x = apply(x, jax.tree.map(functools.partial(_take, i), (blocks, keys)))
    return x


def _take(i: int, stacked: Any) -> Any:
    return stacked[i]
