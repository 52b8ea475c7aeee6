"""Multi-head attention (paper, appendix A) with the options of its successors."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.kernels import HEADS, attend, attention_weights
from vit_jax.models.layers import TOKENS, XAVIER_UNIFORM, Constrain, make_norm
from vit_jax.models.settings import ModelSettings
from vit_jax.models.variants import EncoderShape


class Attention(nnx.Module):
    """softmax(q k^T / sqrt(head_dim)) v with an output projection.

    Kernels: query, key, value (embed, heads, head_dim); out (heads, head_dim, embed).
    """

    def __init__(self, shape: EncoderShape, settings: ModelSettings, rngs: nnx.Rngs):
        split = (shape.heads, shape.width // shape.heads)
        dtype = jnp.dtype(settings.dtype)
        options: dict[str, Any] = {"kernel_init": XAVIER_UNIFORM, "dtype": dtype, "rngs": rngs}
        self.query = nnx.LinearGeneral(shape.width, split, use_bias=shape.qkv_bias, **options)
        self.key = nnx.LinearGeneral(shape.width, split, use_bias=shape.qkv_bias, **options)
        self.value = nnx.LinearGeneral(shape.width, split, use_bias=shape.qkv_bias, **options)
        self.out = nnx.LinearGeneral(split, shape.width, axis=(-2, -1), **options)
        self.normed = shape.qk_norm
        if shape.qk_norm:
            self.query_norm = make_norm(shape.norm, split[1], dtype, rngs, settings.norm_epsilon)
            self.key_norm = make_norm(shape.norm, split[1], dtype, rngs, settings.norm_epsilon)
        self.kernel, self.dropout_rate = settings.attention, settings.attention_dropout

    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        constrain: Constrain,
        *,
        probe: jax.Array | None = None,
        offsets: jax.Array | None = None,
        weights: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        """(b, n, d) -> (b, q, d) and, on request, the weights (b, k, q, n) in float32, before dropout.

        Args:
          x: tokens.
          key: of the dropout of attention weights; None in evaluation.
          constrain: shards activations.
          probe: (1, q, d), what the queries of all images are made from in place of `x`; (b, q, d) for one each.
          offsets: (2n - 1, e), keys for the offsets 1 - n to n - 1 between query and key (paper, appendix D.4).
          weights: whether to return the attention weights; the kernel is then the plain one.
        """
        query = self.query(x if probe is None else probe)
        if probe is not None:  # one product for all images, and a gradient that is summed before it is multiplied
            query = jnp.broadcast_to(query, (x.shape[0], *query.shape[1:]))
        query = constrain(query, HEADS)
        keys, value = constrain(self.key(x), HEADS), constrain(self.value(x), HEADS)
        if self.normed:
            query, keys = self.query_norm(query), self.key_norm(keys)
        bias = None if offsets is None else relative_logits(query, offsets)
        found = attention_weights(query, keys, bias) if weights else None
        mixed = attend(
            query,
            keys,
            value,
            kind="plain" if weights else self.kernel,
            bias=bias,
            dropout_rate=0.0 if key is None else self.dropout_rate,
            dropout_key=key,
            constrain=constrain,
        )
        return constrain(self.out(constrain(mixed, HEADS)), TOKENS), found


def relative_logits(query: jax.Array, offsets: jax.Array) -> jax.Array:
    """What relative position embeddings add to the attention logits: q_i . r_(i-j) / sqrt(e).

    Args:
      query: (b, n, k, e).
      offsets: (2n - 1, e); row n - 1 + i - j belongs to query i and key j, the same for all heads.

    Returns:
      (b, k, n, n) in float32.
    """
    n, e = query.shape[1], query.shape[-1]
    scores = jnp.einsum(
        "bqke,re->bkqr", query * e**-0.5, offsets.astype(query.dtype), preferred_element_type=jnp.float32
    )
    rows = n - 1 + jnp.arange(n)[:, None] - jnp.arange(n)[None, :]
    return jnp.take_along_axis(scores, rows[None, None], axis=-1)
