"""Layers every model family shares: the stem, position embeddings, dropout, and the hooks of a call.

Axis vocabulary: batch b, height h, width w, channels c, tokens n, embed d, heads k, head_dim e, mlp m.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

# Called on activations with their logical axis names; the parallel room supplies one that shards.
Constrain = Callable[[jax.Array, tuple[str, ...]], jax.Array]

TOKENS = ("batch", "tokens", "embed")

# Module-level, so that two models built alike have equal static parts (closures compare by identity).
LECUN_NORMAL = nnx.initializers.lecun_normal()
XAVIER_UNIFORM = nnx.initializers.xavier_uniform()
POSITION_INIT = nnx.initializers.normal(stddev=0.02)


def unconstrained(x: jax.Array, names: tuple[str, ...]) -> jax.Array:
    """The `Constrain` of a single device: leaves `x` alone, checks the names' number."""
    if x.ndim != len(names):
        raise ValueError(f"{names} does not name the {x.ndim} axes of shape {x.shape}")
    return x


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes elements with probability `rate` and rescales the rest; does nothing without a key."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def split_key(key: jax.Array | None, number: int) -> list[jax.Array | None]:
    """`number` independent keys, or as many Nones: no key means no randomness."""
    return [None] * number if key is None else list(jax.random.split(key, number))


def layer_norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm of the released models: epsilon 1e-6, statistics in float32 by two passes."""
    return nnx.LayerNorm(width, epsilon=1e-6, dtype=dtype, use_fast_variance=False, rngs=rngs)


class PatchEmbed(nnx.Module):
    """Cuts images into patches and projects each linearly: a patch x patch convolution of that stride.

    `kernel` has shape (patch, patch, channels, embed) as in the released files; the convolution is done as one
    matmul, because its windows do not overlap.
    """

    def __init__(self, patch: int, channels: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.kernel = nnx.Param(LECUN_NORMAL(rngs.params(), (patch, patch, channels, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,), jnp.float32))

    def __call__(self, images: jax.Array) -> jax.Array:
        """(b, h, w, c) -> (b, h/patch * w/patch, d), patches in raster order."""
        kernel = self.kernel[...].astype(self.dtype)
        p, _, c, d = kernel.shape
        b, h, w, _ = images.shape
        cut = images.astype(self.dtype).reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
        patches = cut.reshape(b, (h // p) * (w // p), p * p * c)
        return patches @ kernel.reshape(p * p * c, d) + self.bias[...].astype(self.dtype)
