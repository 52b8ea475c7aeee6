"""Multi-head self-attention (paper, appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.layers import TOKENS, XAVIER_UNIFORM, Constrain

HEADS = ("batch", "tokens", "heads", "head_dim")


class Attention(nnx.Module):
    """softmax(q k^T / sqrt(head_dim)) v with an output projection; biases on all four.

    Kernels: query, key, value (embed, heads, head_dim); out (heads, head_dim, embed).
    """

    def __init__(self, width: int, heads: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        split = (heads, width // heads)
        options: dict[str, Any] = {"kernel_init": XAVIER_UNIFORM, "dtype": dtype, "rngs": rngs}
        self.query = nnx.LinearGeneral(width, split, **options)
        self.key = nnx.LinearGeneral(width, split, **options)
        self.value = nnx.LinearGeneral(width, split, **options)
        self.out = nnx.LinearGeneral(split, width, axis=(-2, -1), **options)

    def __call__(self, x: jax.Array, constrain: Constrain) -> jax.Array:
        """(b, n, d) -> (b, n, d)."""
        query, key, value = (constrain(project(x), HEADS) for project in (self.query, self.key, self.value))
        mixed = dot_product_attention(query, key, value)
        return constrain(self.out(constrain(mixed, HEADS)), TOKENS)


def dot_product_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(e)) v over (b, n, k, e) arrays; logits and softmax in float32."""
    scale = query.shape[-1] ** -0.5
    logits = jnp.einsum("bqke,bnke->bkqn", query * scale, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bkqn,bnke->bqke", weights, value)
