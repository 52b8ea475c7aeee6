"""Convolutional trunks of bottleneck units, with GroupNorm and weight-standardised convolutions (arXiv 1912.11370).

Two versions were released and are not interchangeable:

1. The hybrids' (google-research/vision_transformer): units normalise after each convolution, and so does the root;
   SAME padding.
2. BiT's (google-research/big_transfer): units normalise before each convolution, the root not at all; symmetric
   padding. The norm after the last unit belongs to the model.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.layers import LECUN_NORMAL, Constrain
from vit_jax.models.stack import rematerialized, run, stacked
from vit_jax.models.variants import TrunkShape

IMAGES = ("batch", "height", "width", "channels")

GROUPS = 32
# By version, from the released models' code.
GROUP_NORM_EPSILON = {1: 1e-6, 2: 1e-5}


def trunk_channels(shape: TrunkShape) -> int:
    """Channels of the trunk's output."""
    width = 64 * shape.width
    return 4 * width * 2 ** (len(shape.units) - 1) if shape.units else width


def trunk_stride(shape: TrunkShape) -> int:
    """Pixels a side for one position of the output: the root halves twice, each stage but the first once more."""
    return 4 * 2 ** max(0, len(shape.units) - 1)


def trunk_grid(shape: TrunkShape, image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the trunk's output for images of (height, width) pixels.

    Sizes that the stride does not divide round up in both versions: SAME does, and so does a window of odd size k with
    (k - 1) / 2 of padding on both sides.
    """
    stride, (height, width) = trunk_stride(shape), image_size
    return -(-height // stride), -(-width // stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Normalises over positions and the channels of a group; backward, too, reads `x` twice and writes once.

    Args:
      x: (b, h, w, c).
      scale: (c,) float32.
      bias: (c,) float32.
      epsilon: added to the variance.

    Returns:
      (b, h, w, c) in the dtype of `x`.
    """
    return _group_norm_forward(x, scale, bias, epsilon)[0]


def _group_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, Any]:
    mean, inverse = _statistics(x, epsilon)
    factor = inverse * scale
    y = x.astype(jnp.float32) * factor + (bias - mean * factor)
    return y.astype(x.dtype), (x, scale, mean, inverse)


def _statistics(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """Mean and inverse deviation of each image and group, float32 (b, 1, 1, c), by one pass over `x`.

    Sums are of the differences from one pixel of the channel, which keeps digits where the mean is large.
    """
    b, h, w, c = x.shape
    pixel = jax.lax.stop_gradient(x[:, h // 2, w // 2]).astype(jnp.float32)[:, None, None]
    difference = x.astype(jnp.float32) - pixel
    mean, square = difference.mean((1, 2)), jnp.square(difference).mean((1, 2))
    variance, mean = square - jnp.square(mean), mean + pixel[:, 0, 0]
    grouped = mean.reshape(b, GROUPS, c // GROUPS)
    middle = grouped.mean(-1, keepdims=True)
    spread = variance.reshape(grouped.shape) + jnp.square(grouped - middle)
    inverse = jax.lax.rsqrt(spread.mean(-1, keepdims=True) + epsilon)
    middle, inverse = (jnp.broadcast_to(part, grouped.shape).reshape(b, 1, 1, c) for part in (middle, inverse))
    return middle, inverse


def _group_norm_backward(_: float, kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = kept
    b, h, w, c = x.shape
    dy, normal = gradient.astype(jnp.float32), (x.astype(jnp.float32) - mean) * inverse
    dbias, dscale = dy.sum((1, 2)), (dy * normal).sum((1, 2))  # (b, c)

    def of_groups(sums: jax.Array) -> jax.Array:
        means = (sums * scale).reshape(b, GROUPS, c // GROUPS).sum(-1, keepdims=True) / (h * w * (c // GROUPS))
        return jnp.broadcast_to(means, (b, GROUPS, c // GROUPS)).reshape(b, 1, 1, c)

    dx = inverse * (dy * scale - of_groups(dbias) - normal * of_groups(dscale))
    return dx.astype(x.dtype), dscale.sum(0), dbias.sum(0)


group_norm.defvjp(_group_norm_forward, _group_norm_backward)


class GroupNorm(nnx.Module):
    """Normalises over positions and over the channels of each of 32 groups; `scale` and `bias` have shape (c,).

    Statistics are float32 and the variance is that of the centred values: mean(x^2) - mean(x)^2 cancels where the
    mean is large, which released weights feel.

    Args:
      channels: a multiple of 32.
      epsilon: added to the variance; `GROUP_NORM_EPSILON` has those of the released models.
      dtype: of the result; parameters are float32.
      initial_scale: the value `scale` starts with.
    """

    def __init__(self, channels: int, epsilon: float, dtype: jnp.dtype, initial_scale: float = 1.0):
        self.epsilon = epsilon
        self.dtype = dtype
        self.scale = nnx.Param(jnp.full((channels,), initial_scale, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, h, w, c) -> (b, h, w, c) in `dtype`."""
        return group_norm(x, self.scale[...], self.bias[...], self.epsilon).astype(self.dtype)


def standardized(kernel: jax.Array, version: int) -> jax.Array:
    """The (..., h, w, c, filters) kernel with mean 0 and standard deviation 1 in each filter, nearly.

    What keeps a small deviation from being divided by is the version's own, from the released models' code.
    """
    filters = (-4, -3, -2)
    centred = kernel - kernel.mean(filters, keepdims=True)
    variance = jnp.square(centred).mean(filters, keepdims=True)
    if version == 2:
        return centred * jax.lax.rsqrt(variance + 1e-10)
    # 1e-30 is far below what the sum can show; it keeps the root's gradient finite for a filter of equal weights.
    return centred / (jnp.sqrt(variance + 1e-30) + 1e-5)


class StdConv(nnx.Module):
    """Convolution with a standardised kernel and no bias; `kernel` is (size, size, channels, features).

    Written as plain arithmetic and `lax.conv_general_dilated`, which exporters understand.

    Attributes:
      ready: whether the kernel is standardised already, see `Model.standardize`.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        features: int,
        *,
        stride: int = 1,
        version: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        self.version = version
        self.dtype = dtype
        self.ready = False
        # The default of Flax, which the released models' code leaves in place.
        self.kernel = nnx.Param(LECUN_NORMAL(rngs.params(), (size, size, channels, features), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, features) in `dtype`, sizes rounded up."""
        kernel = self.kernel[...] if self.ready else standardized(self.kernel[...], self.version)
        kernel = kernel.astype(self.dtype)
        margin = kernel.shape[0] // 2
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel,
            (self.stride, self.stride),
            "SAME" if self.version == 1 else [(margin, margin)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def max_pool(x: jax.Array, version: int) -> jax.Array:
    """Largest of 3 x 3 windows of stride 2, (b, h, w, c) -> (b, h/2, w/2, c), sizes rounded up.

    Version 1 pads as SAME does and ignores the margin. Version 2 pads zeros on all sides, and the maximum counts them.
    """
    if version == 2:
        x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    # Not `lax.reduce_window` itself: jax2onnx 0.17 writes a graph for it that does not run.
    return nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding="SAME" if version == 1 else "VALID")


class Unit(nnx.Module):
    """Bottleneck with a shortcut: 1 x 1, 3 x 3 and 1 x 1 convolutions, the last to 4 * `width` channels.

    The 3 x 3 convolution has the stride. The first unit of a stage, and only that, changes the number of channels and
    possibly the size: its shortcut is a projection.
    """

    def __init__(self, channels: int, width: int, stride: int, version: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.version = version

        def conv(size: int, channels: int, features: int, stride: int = 1) -> StdConv:
            return StdConv(size, channels, features, stride=stride, version=version, dtype=dtype, rngs=rngs)

        def norm(channels: int, initial_scale: float = 1.0) -> GroupNorm:
            return GroupNorm(channels, GROUP_NORM_EPSILON[version], dtype, initial_scale)

        self.conv1 = conv(1, channels, width)
        self.conv2 = conv(3, width, width, stride)
        self.conv3 = conv(1, width, 4 * width)
        projects = channels != 4 * width
        self.proj = conv(1, channels, 4 * width, stride) if projects else None
        if version == 1:
            # Scale 0: the unit starts as its shortcut.
            self.norm1, self.norm2, self.norm3 = norm(width), norm(width), norm(4 * width, 0.0)
            self.proj_norm = norm(4 * width) if projects else None
        else:
            self.norm1, self.norm2, self.norm3 = norm(channels), norm(width), norm(width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, h, w, channels) -> (b, h / stride, w / stride, 4 * width), sizes rounded up."""
        return self._norm_after(x) if self.version == 1 else self._norm_before(x)

    def _norm_after(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.norm1(self.conv1(x)))
        y = jax.nn.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        shortcut = self.proj_norm(self.proj(x)) if self.proj and self.proj_norm else x
        return jax.nn.relu(shortcut + y)

    def _norm_before(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.norm1(x))
        shortcut = self.proj(y) if self.proj else x
        y = self.conv1(y)
        y = self.conv2(jax.nn.relu(self.norm2(y)))
        return shortcut + self.conv3(jax.nn.relu(self.norm3(y)))


class Stage(nnx.Module):
    """Units of one width: `unit1` by itself, the others, which are alike, stacked as `units`."""

    def __init__(
        self, depth: int, channels: int, width: int, stride: int, version: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.depth = depth
        self.unit1 = Unit(channels, width, stride, version, dtype, rngs)
        if depth > 1:
            self.units = stacked(lambda rngs: Unit(4 * width, width, 1, version, dtype, rngs), depth - 1, rngs)

    def __call__(
        self, x: jax.Array, constrain: Constrain, *, scan: bool, remat: str, outputs: list[jax.Array] | None
    ) -> jax.Array:
        """See `Trunk`; appends what each unit gives to `outputs`."""

        def body(x: jax.Array, unit: Unit) -> tuple[jax.Array, Any]:
            x = constrain(unit(x), IMAGES)
            return x, None if outputs is None else x

        x, _ = rematerialized(body, remat)(x, self.unit1)
        if outputs is not None:
            outputs.append(x)
        if self.depth > 1:
            scan = scan and constrain.platform == "tpu"
            x, each = run(body, x, self.units, self.depth - 1, scan=scan, remat=remat)
            if outputs is not None:
                outputs.extend(each)
        return x


def _root(conv: StdConv, norm: GroupNorm | None, images: jax.Array) -> jax.Array:
    x = conv(images)
    return max_pool(x, 2) if norm is None else max_pool(jax.nn.relu(norm(x)), 1)


class Trunk(nnx.Module):
    """Root and stages of a ResNet: images to a grid of features.

    Parameter names: `root/kernel`, `root_norm` (version 1), `block1/unit1/...` and `block1/units/...` (leading layer
    axis) with `conv1..3`, `norm1..3`, and in each `unit1` also `proj` and (version 1) `proj_norm`.

    Args:
      shape: units of the stages, width factor, version. Without stages it is the root alone.
      channels: of the images.
      dtype: of activations and convolutions; parameters and statistics are float32.
      rngs: its stream `params` initialises the kernels.
    """

    def __init__(self, shape: TrunkShape, channels: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        width, version = 64 * shape.width, shape.version
        self.stages = len(shape.units)
        self.root = StdConv(7, channels, width, stride=2, version=version, dtype=dtype, rngs=rngs)
        self.root_norm = GroupNorm(width, GROUP_NORM_EPSILON[version], dtype) if version == 1 else None
        channels = width
        for b, depth in enumerate(shape.units):
            stage = Stage(depth, channels, width * 2**b, 1 if b == 0 else 2, version, dtype, rngs)
            setattr(self, f"block{b + 1}", stage)
            channels = 4 * width * 2**b

    def __call__(
        self,
        images: jax.Array,
        constrain: Constrain,
        *,
        scan: bool,
        remat: str,
        outputs: list[jax.Array] | None = None,
    ) -> jax.Array:
        """Runs the trunk.

        Args:
          images: (b, h, w, c) floats in [-1, 1].
          constrain: shards activations.
          scan: loop over stacked units in the compiled program, on TPUs alone; elsewhere, and without it, they are
            unrolled, with the same numbers. In a loop XLA for CPUs takes some 15 times as long over convolutions, and
            an H200 a third longer over a step of R50x1.
          remat: what backward recomputes of the root and of each unit: `none`, `dots` or `full`, see `ModelSettings`.
          outputs: if given, the root's output and then each unit's are appended, in order.

        Returns:
          (b, h', w', c') in the trunk's dtype; `trunk_grid` and `trunk_channels` tell the sizes.
        """
        x = constrain(rematerialized(_root, remat)(self.root, self.root_norm, images), IMAGES)
        if outputs is not None:
            outputs.append(x)
        for b in range(self.stages):
            stage: Stage = getattr(self, f"block{b + 1}")
            x = stage(x, constrain, scan=scan, remat=remat, outputs=outputs)
        return x
