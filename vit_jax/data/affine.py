"""The graph operation that moves a whole image, see `vit_jax.data.ops`."""

import math

import tensorflow as tf

from vit_jax.data.ops import Context, op, uniform


@op
def random_affine(
    image: tf.Tensor, context: Context, degrees: float = 10.0, shift: float = 0.1, scale: float = 0.1
) -> tf.Tensor:
    """Turns by up to `degrees`, shifts by up to `shift` of each side, zooms by up to 1 +- `scale`; edges repeat."""
    if not 0 <= scale < 1:
        raise ValueError("needs 0 <= scale < 1")
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    turn, down, right, zoom = tf.unstack(uniform(context, 4, -1.0, 1.0))
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
