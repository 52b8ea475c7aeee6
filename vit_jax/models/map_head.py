"""The attention-pooling head of "Scaling Vision Transformers" (arXiv 2106.04560)."""

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.attention import Attention
from vit_jax.models.encoder import Mlp
from vit_jax.models.layers import XAVIER_UNIFORM, Constrain, dropout, make_norm, split_key
from vit_jax.models.settings import ModelSettings
from vit_jax.models.variants import EncoderShape


class MapHead(nnx.Module):
    """Pools by attention with one learned query, then an MLP with a residual (arXiv 2106.04560, as in big_vision)."""

    def __init__(self, shape: EncoderShape, settings: ModelSettings, rngs: nnx.Rngs):
        self.probe = nnx.Param(XAVIER_UNIFORM(rngs.params(), (1, 1, shape.width), jnp.float32))
        self.attn = Attention(shape, settings, rngs)
        self.norm = make_norm(shape.norm, shape.width, jnp.dtype(settings.dtype), rngs, settings.norm_epsilon)
        self.mlp = Mlp(shape, settings, rngs)
        self.dropout_rate = settings.dropout

    def __call__(self, x: jax.Array, key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """(b, n, d) -> (b, d)."""
        key_weights, key_out, key_mlp = split_key(key, 3)
        x, _ = self.attn(x, key_weights, constrain, probe=self.probe[...].astype(x.dtype))
        x = dropout(x, self.dropout_rate, key_out)
        return (x + self.mlp(self.norm(x), key_mlp, constrain))[:, 0]
