"""Pre-processing operations on one image, in TensorFlow; named in strings such as `decode|inception_crop|flip`.

An operation is a function `(image, context, *arguments) -> image`; its annotated defaults are the arguments a
string may give, by position or name. Images are uint8 (height, width, channels) after `decode`. Crops and resizes
aim at the configured image size. Randomness comes from `context.seed` alone.
"""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Context:
    """What an operation may know besides its image.

    Attributes:
      size: (height, width) that the model wants.
      channels: that the model wants.
      seed: int32 tensor of shape (2,), different for every example, epoch and operation.
    """

    size: tuple[int, int]
    channels: int
    seed: tf.Tensor


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG; adds up to 1, so gray stays as it is
OPS: dict[str, Callable[..., tf.Tensor]] = {}


def op(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Registers an operation under its function's name."""
    OPS[function.__name__] = function
    return function


def _uniform(context: Context, number: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    return tf.random.stateless_uniform((number,), context.seed, low, high)


def _resized(image: tf.Tensor, size: tuple[int, int] | tf.Tensor, antialias: bool = True) -> tf.Tensor:
    resized = tf.image.resize(tf.cast(image, tf.float32), size, antialias=antialias)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


@op
def decode(image: tf.Tensor, context: Context) -> tf.Tensor:
    """PNG, JPEG, BMP or GIF (first frame) bytes -> uint8 with the configured number of channels."""
    decoded = tf.io.decode_image(image, channels=3, expand_animations=False)
    decoded.set_shape((None, None, 3))
    if context.channels == 3:
        return decoded
    luma = tf.reduce_sum(tf.cast(decoded, tf.float32) * LUMA, axis=-1, keepdims=True)  # not all decoders offer it
    return tf.cast(tf.round(luma), tf.uint8)


@op
def resize(image: tf.Tensor, context: Context) -> tf.Tensor:
    """To the image size, bilinear with antialiasing; the aspect ratio may change."""
    return _resized(image, context.size)


@op
def resize_small(image: tf.Tensor, context: Context, ratio: float = 1.143) -> tf.Tensor:
    """Shorter side to `ratio` times the image size's longer one (224 -> 256), keeping the aspect ratio."""
    side = round(max(context.size) * ratio)
    if side < 1:
        raise ValueError("ratio is too small")
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    scale = side / tf.minimum(height, width)
    return _resized(image, tf.cast(tf.round(tf.stack([height * scale, width * scale])), tf.int32))


@op
def central_crop(image: tf.Tensor, context: Context) -> tf.Tensor:
    """The middle of the image; images that are too small are padded with black."""
    cropped = tf.image.resize_with_crop_or_pad(image, *context.size)
    cropped.set_shape((*context.size, context.channels))
    return cropped


@op
def random_crop(image: tf.Tensor, context: Context, pad: int = 0) -> tf.Tensor:
    """A window of the image size at a random place, after padding each side with `pad` black pixels."""
    image = tf.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return tf.image.stateless_random_crop(image, (*context.size, context.channels), context.seed)


@op
def inception_crop(
    image: tf.Tensor, context: Context, area_min: float = 0.05, area_max: float = 1.0, aspect: float = 4 / 3
) -> tf.Tensor:
    """A random window of `area_min`..`area_max` of the area and 1/`aspect`..`aspect` of the shape, resized."""
    if not 0 < area_min <= area_max <= 1 <= aspect:
        raise ValueError("needs 0 < area_min <= area_max <= 1 <= aspect")
    start, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((0, 0, 4), tf.float32),
        context.seed,
        area_range=(area_min, area_max),
        aspect_ratio_range=(1 / aspect, aspect),
        min_object_covered=0.0,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.slice(image, start, size)
    window.set_shape((None, None, context.channels))
    return _resized(window, context.size, antialias=False)


@op
def flip(image: tf.Tensor, context: Context) -> tf.Tensor:
    """Mirrors left and right, every other time."""
    return tf.image.stateless_random_flip_left_right(image, context.seed)


@op
def random_affine(
    image: tf.Tensor, context: Context, degrees: float = 10.0, shift: float = 0.1, scale: float = 0.1
) -> tf.Tensor:
    """Turns by up to `degrees`, shifts by up to `shift` of each side, zooms by up to 1 +- `scale`; edges repeat."""
    if not 0 <= scale < 1:
        raise ValueError("needs 0 <= scale < 1")
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    turn, down, right, zoom = tf.unstack(_uniform(context, 4, -1.0, 1.0))
    angle, zoom = turn * (degrees * math.pi / 180), 1 + zoom * scale
    cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    y, x = (height - 1) / 2, (width - 1) / 2
    # Output pixel (u, v) reads input (cos u - sin v + a, sin u + cos v + b), which turns about the centre.
    a = x - cos * x + sin * y + right * shift * width
    b = y - sin * x - cos * y + down * shift * height
    zero = tf.zeros(())
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack([cos, -sin, a, sin, cos, b, zero, zero])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]
    moved.set_shape(image.shape)
    return tf.cast(tf.round(moved), tf.uint8)
