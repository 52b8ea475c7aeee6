"""Layers every model family shares: the stem, position embeddings, dropout, and the hooks of a call.

Axis vocabulary: batch b, height h, width w, channels c, tokens n, embed d, heads k, head_dim e, mlp m.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

TOKENS = ("batch", "tokens", "embed")

# Module-level, so that two models built alike have equal static parts (closures compare by identity).
LECUN_NORMAL = nnx.initializers.lecun_normal()
XAVIER_UNIFORM = nnx.initializers.xavier_uniform()
ZEROS = nnx.initializers.zeros_init()


class Constrain(Protocol):
    """How activations lie on devices, by the logical names of their axes; the parallel room supplies one for a mesh."""

    @property
    def platform(self) -> str:
        """`cpu`, `gpu` or `tpu`: what the program will run on."""

    @property
    def device_kind(self) -> str:
        """What JAX calls these devices: `TPU v6 lite`, for example."""

    def __call__(self, x: jax.Array, names: tuple[str, ...]) -> jax.Array:
        """`x`, with the axes of these names split over devices."""

    def in_order(self, x: jax.Array, names: tuple[str, ...]) -> jax.Array:
        """`x`, its axes in memory in their own order, where XLA would choose another."""

    def per_device(
        self,
        function: Callable[..., jax.Array],
        names_in: tuple[tuple[str, ...], ...],
        names_out: tuple[str, ...],
    ) -> Callable[..., jax.Array]:
        """`function`, run on each device's part of its arguments: for kernels that XLA cannot split.

        Args:
          function: arrays to an array; must treat the axes that are split independently.
          names_in: axis names of each argument; an argument's axis may have size 1 where another's is split.
          names_out: axis names of the result; an axis named like one of an argument is as long as that.
        """


class SingleDevice:
    """The `Constrain` of a single device: leaves everything alone, checks the names' number."""

    @property
    def platform(self) -> str:
        """Of JAX's default device."""
        return jax.default_backend()

    @property
    def device_kind(self) -> str:
        """Of JAX's default device."""
        return jax.devices()[0].device_kind

    def __call__(self, x: jax.Array, names: tuple[str, ...]) -> jax.Array:
        """`x` itself."""
        if x.ndim != len(names):
            raise ValueError(f"{names} does not name the {x.ndim} axes of shape {x.shape}")
        return x

    def in_order(self, x: jax.Array, names: tuple[str, ...]) -> jax.Array:
        """`x` itself, its names checked."""
        return self(x, names)

    def per_device(
        self,
        function: Callable[..., jax.Array],
        names_in: tuple[tuple[str, ...], ...],
        names_out: tuple[str, ...],
    ) -> Callable[..., jax.Array]:
        """`function`, its arguments and result checked like any activation."""

        def run(*arrays: jax.Array) -> jax.Array:
            checked = [self(x, names) for x, names in zip(arrays, names_in, strict=True)]
            return self(function(*checked), names_out)

        return run


unconstrained: Constrain = SingleDevice()


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes elements with probability `rate` and rescales the rest; does nothing without a key."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def split_key(key: jax.Array | None, number: int) -> list[jax.Array | None]:
    """`number` independent keys, or as many Nones: no key means no randomness."""
    return [None] * number if key is None else list(jax.random.split(key, number))


def drop_path(branch: jax.Array, rate: jax.Array | float, key: jax.Array | None, per_image: int = 1) -> jax.Array:
    """Stochastic depth: zeroes a whole residual branch of an image with probability `rate`, rescales the others.

    Args:
      branch: (b, ...).
      rate: below 1; may be traced, since it differs by layer.
      key: None in evaluation.
      per_image: consecutive rows of the batch that are one image's.
    """
    if key is None:
        return branch
    keep = jnp.repeat(jax.random.bernoulli(key, 1.0 - rate, (branch.shape[0] // per_image,)), per_image)
    keep = keep.reshape(-1, *(1,) * (branch.ndim - 1))
    return jnp.where(keep, branch / jnp.asarray(1.0 - rate, branch.dtype), jnp.zeros_like(branch))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Over the last axis, in float32 by two passes, with a backward pass that reads `x` twice and writes it once.

    Automatic differentiation keeps or recomputes several arrays of the size of `x` in float32; here each position keeps
    its mean and its inverse deviation.

    Args:
      x: (..., d).
      scale: (d,) float32.
      bias: (d,) float32.
      epsilon: added to the variance.

    Returns:
      (..., d) in the dtype of `x`.
    """
    return _layer_norm_forward(x, scale, bias, epsilon)[0]


def _layer_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, Any]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + epsilon)
    y = ((wide - mean) * inverse * scale + bias).astype(x.dtype)
    # Without the barrier XLA for GPUs makes the statistics again in backward, in a kernel that cannot also sum over
    # rows, and writes what is to be summed to memory, in float32: 28.8 -> 27.4 ms for 6 layers of L/16 on an H200.
    return y, (x, scale, *jax.lax.optimization_barrier((mean, inverse)))


def _layer_norm_backward(_: float, kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = kept
    normal, dy = (x.astype(jnp.float32) - mean) * inverse, gradient.astype(jnp.float32)
    rows = tuple(range(x.ndim - 1))
    dn = dy * scale
    dx = inverse * (dn - dn.mean(-1, keepdims=True) - normal * (dn * normal).mean(-1, keepdims=True))
    return dx.astype(x.dtype), (dy * normal).sum(rows), dy.sum(rows)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class LayerNorm(nnx.Module):
    """`layer_norm` with its parameters; `scale` and `bias` have shape (size,).

    Args:
      size: of the last axis.
      epsilon: added to the variance.
      dtype: of the result; parameters are float32.
    """

    def __init__(self, size: int, epsilon: float, dtype: jnp.dtype):
        self.epsilon = epsilon
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones((size,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((size,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., size) -> (..., size) in `dtype`."""
        return layer_norm(x.astype(self.dtype), self.scale[...], self.bias[...], self.epsilon)


def make_norm(kind: str, size: int, dtype: jnp.dtype, rngs: nnx.Rngs, epsilon: float = 1e-6) -> LayerNorm | nnx.RMSNorm:
    """The norm over the last axis; statistics in float32 by two passes.

    Args:
      kind: `layer`, or `rms`: without centring and bias.
      size: of the last axis.
      dtype: of the result; parameters are float32.
      rngs: unused, norms start at the identity.
      epsilon: added to the variance.
    """
    if kind == "layer":
        return LayerNorm(size, epsilon, dtype)
    return nnx.RMSNorm(size, epsilon=epsilon, dtype=dtype, use_fast_variance=False, rngs=rngs)


def make_head(width: int, classes: int, bias: float, rngs: nnx.Rngs) -> nnx.Linear:
    """The classifier: a zero kernel and a constant bias.

    It computes in float32 whatever the compute dtype: bfloat16 logits tie, and losses and ranks feel it.
    """
    bias_init = nnx.initializers.constant(bias)
    return nnx.Linear(width, classes, kernel_init=ZEROS, bias_init=bias_init, dtype=jnp.float32, rngs=rngs)


def cut_patches(images: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """(b, h, w, c) -> (b, patches, h / rows, w / columns, c) in raster order, for a grid of (rows, columns)."""
    (b, h, w, c), (rows, columns) = images.shape, grid
    parts = images.reshape(b, rows, h // rows, columns, w // columns, c).swapaxes(2, 3)
    return parts.reshape(b, rows * columns, h // rows, w // columns, c)


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
        """(b, h, w, c) -> (b, h//patch * w//patch, d), patches in raster order.

        Rows and columns beyond the last whole patch are not seen, as in the released models (384 px with patches of
        14: the last 6).
        """
        kernel = self.kernel[...].astype(self.dtype)
        p, _, c, d = kernel.shape
        b, h, w, _ = images.shape
        grid = h // p, w // p
        whole = images[:, : grid[0] * p, : grid[1] * p].astype(self.dtype)
        patches = cut_patches(whole, grid).reshape(b, grid[0] * grid[1], p * p * c)
        return patches @ kernel.reshape(p * p * c, d) + self.bias[...].astype(self.dtype)
