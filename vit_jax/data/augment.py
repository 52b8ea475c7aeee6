"""Random changes that leave the class of a picture alone, in TensorFlow; named in pre-processing strings.

Operations take and give uint8 (height, width, channels) of any size with 1 or 3 channels, keep the shape, and draw from
`context.seed` alone. Colour operations leave gray pictures as they are. What moves or cuts out pixels fills the place
with the gray `FILL` and looks up the nearest pixel, as the authors of AutoAugment and RandAugment do.

Scales of the magnitudes:

* `randaugment` follows the published TensorFlow code (EfficientNet, AugReg, big_vision): 10 is the reference, 0 to 30
  are allowed, and amounts are in proportion; see its docstring. AugReg (arXiv 2106.10270) trains with 0, 10, 15 and 20.
* `autoaugment` and `trivial_augment` follow torchvision's tables: 10 and 31 equal steps from nothing to the largest
  amount, brightness and its like going either way from 1.

There is no `value_range` here: batches stay uint8, and the device brings them to [-1, 1]. Nor is there a gray-to-colour
operation: `decode` already gives the configured number of channels.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import tensorflow as tf

from vit_jax.data.ops import LUMA, Context, op, uniform

FILL = 128
_SIDE = 224  # pixels of the pictures for which RandAugment's distances were published
_ERASING_TRIES = 10

Amount: TypeAlias = float | tf.Tensor
Change = Callable[[tf.Tensor], tf.Tensor]


# Draws.


def _part(context: Context, number: int) -> Context:
    """The same context with an independent seed."""
    return dataclasses.replace(context, seed=tf.random.experimental.stateless_fold_in(context.seed, number))


def _index(context: Context, size: int) -> tf.Tensor:
    return tf.random.stateless_uniform((), context.seed, 0, size, tf.int32)


def _signs(context: Context, number: int) -> tf.Tensor:
    return tf.where(uniform(context, number) < 0.5, -1.0, 1.0)


def _sometimes(draw: tf.Tensor, probability: float, change: Change, image: tf.Tensor) -> tf.Tensor:
    """`change(image)` where the draw from [0, 1) says so."""
    changed = tf.cond(draw < probability, lambda: change(image), lambda: image)
    changed.set_shape(image.shape)
    return changed


def _one_of(number: tf.Tensor, changes: list[Change], image: tf.Tensor) -> tf.Tensor:
    """The change of this number; the others are not computed."""
    branches = [functools.partial(change, image) for change in changes]
    changed = tf.switch_case(number, branches)
    changed.set_shape(image.shape)
    return changed


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability = {probability} must be between 0 and 1")


# Single changes, without chance. They agree with Pillow's ImageOps and ImageEnhance.


def _sides(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    return height, width


def _moved(image: tf.Tensor, a: Amount, b: Amount, c: Amount, d: Amount, e: Amount, f: Amount) -> tf.Tensor:
    """Pixel (x, y) of the result is the one nearest to (a x + b y + c, d x + e y + f)."""
    row = tf.stack([tf.cast(value, tf.float32) for value in (a, b, c, d, e, f, 0.0, 0.0)])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=row[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(FILL),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
    moved.set_shape(image.shape)
    return moved


def rotated(image: tf.Tensor, degrees: Amount) -> tf.Tensor:
    """Turned counter-clockwise about the centre."""
    height, width = _sides(image)
    angle = tf.cast(degrees, tf.float32) * (math.pi / 180)
    cos, sin, x, y = tf.cos(angle), tf.sin(angle), (width - 1) / 2, (height - 1) / 2
    return _moved(image, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def sheared_x(image: tf.Tensor, slope: Amount) -> tf.Tensor:
    """Row y moves left by `slope` y; the top row stays."""
    return _moved(image, 1.0, slope, 0.0, 0.0, 1.0, 0.0)


def sheared_y(image: tf.Tensor, slope: Amount) -> tf.Tensor:
    """Column x moves up by `slope` x; the left column stays."""
    return _moved(image, 1.0, 0.0, 0.0, slope, 1.0, 0.0)


def translated(image: tf.Tensor, right: Amount = 0.0, down: Amount = 0.0) -> tf.Tensor:
    """Moved by so many pixels."""
    return _moved(image, 1.0, 0.0, -right, 0.0, 1.0, -down)


def inverted(image: tf.Tensor) -> tf.Tensor:
    """255 - v."""
    return 255 - image


def solarized(image: tf.Tensor, threshold: Amount) -> tf.Tensor:
    """Inverts values from `threshold` on; above 255 it changes nothing."""
    # In uint8 throughout, which is three times as fast as a choice between two pictures.
    limit = tf.math.ceil(tf.cast(threshold, tf.float32))
    high = tf.cast(image >= tf.cast(tf.minimum(limit, 255.0), tf.uint8), tf.uint8)
    return tf.bitwise.bitwise_xor(image, high * tf.cast(tf.where(limit <= 255, 255, 0), tf.uint8))


def solarize_added(image: tf.Tensor, addition: int) -> tf.Tensor:
    """Adds to values below 128, up to 255."""
    room = tf.minimum(tf.constant(min(addition, 255), tf.uint8), 255 - image)
    return image + room * tf.cast(image < 128, tf.uint8)


def posterized(image: tf.Tensor, bits: int | tf.Tensor) -> tf.Tensor:
    """Keeps the highest bits of each value: at least 1, at most 8."""
    dropped = 8 - tf.clip_by_value(bits, 1, 8)
    return tf.bitwise.bitwise_and(image, tf.cast(256 - tf.bitwise.left_shift(1, dropped), tf.uint8))


def _looked_up(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Value v of channel c becomes table[c, v]; the table is (channels, 256)."""
    offsets = 256 * tf.range(tf.shape(image)[-1])
    table = tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8)
    return tf.gather(tf.reshape(table, (-1,)), tf.cast(image, tf.int32) + offsets)


def autocontrasted(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0..255; a constant channel stays."""
    pixels = tf.reshape(image, (-1, image.shape[-1]))
    low, high = (tf.cast(reduce(pixels, axis=0), tf.float64) for reduce in (tf.reduce_min, tf.reduce_max))
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1), 1)
    offset = tf.where(high > low, -low * scale, 0)
    values = tf.range(256, dtype=tf.float64)
    return _looked_up(image, tf.cast(values * scale[:, None] + offset[:, None], tf.int32))


def equalized(image: tf.Tensor) -> tf.Tensor:
    """Spreads each channel's histogram evenly; a channel of too few pixels or values stays."""
    channels = image.shape[-1]
    places = tf.cast(image, tf.int32) + 256 * tf.range(channels)
    counts = tf.math.bincount(tf.reshape(places, (-1,)), minlength=256 * channels, maxlength=256 * channels)
    counts = tf.reshape(counts, (channels, 256))
    values = tf.range(256)
    highest = tf.reduce_max(tf.where(counts > 0, values, 0), axis=1)
    last = tf.gather(counts, highest, batch_dims=1)
    step = (tf.reduce_sum(counts, axis=1) - last)[:, None] // 255
    table = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
    return _looked_up(image, tf.where(step > 0, table, values))


def _blended(degenerate: tf.Tensor, image: tf.Tensor, factor: Amount) -> tf.Tensor:
    """From `degenerate` (0) through `image` (1) and beyond."""
    degenerate, image = tf.cast(degenerate, tf.float32), tf.cast(image, tf.float32)
    return tf.cast(tf.clip_by_value(degenerate + factor * (image - degenerate), 0.0, 255.0), tf.uint8)


def _luma(image: tf.Tensor) -> tf.Tensor:
    """uint8 (height, width, 1), in the 16-bit arithmetic of Pillow."""
    if image.shape[-1] == 1:
        return image
    values = tf.cast(image, tf.int32)
    parts = [values[..., c : c + 1] * round(weight * 2**16) for c, weight in enumerate(LUMA)]
    return tf.cast(tf.bitwise.right_shift(tf.add_n(parts) + 2**15, 16), tf.uint8)


def grayed(image: tf.Tensor) -> tf.Tensor:
    """Luma in all channels."""
    return tf.repeat(_luma(image), image.shape[-1], axis=-1)


def brightened(image: tf.Tensor, factor: Amount) -> tf.Tensor:
    """0 is black, 1 the picture."""
    return _blended(tf.zeros_like(image), image, factor)


def contrasted(image: tf.Tensor, factor: Amount) -> tf.Tensor:
    """0 is the mean luma everywhere, 1 the picture."""
    mean = tf.floor(tf.reduce_mean(tf.cast(_luma(image), tf.float64)) + 0.5)
    return _blended(mean, image, factor)


def saturated(image: tf.Tensor, factor: Amount) -> tf.Tensor:
    """0 is gray, 1 the picture."""
    return _blended(grayed(image), image, factor)


def sharpened(image: tf.Tensor, factor: Amount) -> tf.Tensor:
    """0 is smoothed by the kernel (1 1 1, 1 5 1, 1 1 1) / 13, 1 the picture; its outermost pixels stay."""
    values = tf.cast(image, tf.float32)
    padded = tf.pad(values, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth = tf.floor((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * values) / 13 + 0.5)
    height, width = tf.unstack(tf.shape(image)[:2])
    inside = _within(height, 1, height - 1)[:, None, None] & _within(width, 1, width - 1)[None, :, None]
    return _blended(tf.where(inside, smooth, values), image, factor)


def hue_shifted(image: tf.Tensor, shift: Amount) -> tf.Tensor:
    """Turns the hue by `shift` of the colour circle."""
    if image.shape[-1] == 1:
        return image
    shifted = tf.image.adjust_hue(tf.cast(image, tf.float32) / 255, shift)
    return tf.cast(tf.round(tf.clip_by_value(shifted * 255, 0.0, 255.0)), tf.uint8)


def blurred(image: tf.Tensor, sigma: Amount, reach: int) -> tf.Tensor:
    """Gaussian blur of `sigma` pixels, cut off `reach` pixels away; edges repeat."""
    weights = tf.exp(-0.5 * (tf.range(-reach, reach + 1, dtype=tf.float32) / sigma) ** 2)
    shares = tf.unstack(weights / tf.reduce_sum(weights))
    blurry = tf.cast(image, tf.float32)
    for axis in (0, 1):  # sums of shifted copies: five times as fast as a convolution of one channel
        size = tf.shape(image)[axis]
        wide = tf.gather(blurry, tf.clip_by_value(tf.range(-reach, size + reach), 0, size - 1), axis=axis)
        copies = [wide[i : i + size] if axis == 0 else wide[:, i : i + size] for i in range(2 * reach + 1)]
        blurry = tf.add_n([share * copy for share, copy in zip(shares, copies, strict=True)])
    blurry = tf.cast(tf.round(tf.clip_by_value(blurry, 0.0, 255.0)), tf.uint8)
    blurry.set_shape(image.shape)
    return blurry


def _within(size: tf.Tensor, first: tf.Tensor | int, last: tf.Tensor) -> tf.Tensor:
    """(size,) bool: first <= place < last."""
    places = tf.range(size)
    return (places >= first) & (places < last)


def _replaced(
    image: tf.Tensor, top: tf.Tensor, left: tf.Tensor, bottom: tf.Tensor, right: tf.Tensor, by: tf.Tensor
) -> tf.Tensor:
    """The box from (top, left) up to and without (bottom, right) becomes `by`."""
    height, width = tf.unstack(tf.shape(image)[:2])
    box = _within(height, top, bottom)[:, None, None] & _within(width, left, right)[None, :, None]
    return tf.where(box, by, image)


def cut_out(image: tf.Tensor, half: tf.Tensor, context: Context) -> tf.Tensor:
    """Fills a square of side 2 * `half` pixels about a random pixel; it may stick out."""
    height, width = _sides(image)
    draws = uniform(context, 2)
    y, x = (tf.cast(tf.floor(draws[i] * side), tf.int32) for i, side in enumerate((height, width)))
    return _replaced(image, y - half, x - half, y + half, x + half, tf.constant(FILL, tf.uint8))


# Operations.


@op
def randaugment(image: tf.Tensor, context: Context, layers: int = 2, magnitude: float = 10.0) -> tf.Tensor:
    """`layers` changes of equal strength, each drawn uniformly from 16 (RandAugment, arXiv 1909.13719).

    Set of changes and amounts are those of the published TensorFlow code, which AugReg and big_vision use too. With
    s = magnitude / 10: rotate 30 s degrees, shear 0.3 s, translate 100/224 s of the side, each in a random direction;
    colour, contrast, brightness and sharpness factor 0.1 + 1.8 s; posterize to 4 s bits (at least 1); solarize from
    256 s; solarize_add 110 s; cutout of half side 40/224 s of the shorter side; autocontrast, equalize, invert. So some
    changes are strongest at 0: only the mixture grows with the magnitude. Distances are in proportion to the picture,
    where the published ones are pixels: both agree at 224.

    Raises:
      ValueError: layers not in 1..10, or magnitude not in 0..30.
    """
    if not (1 <= layers <= 10 and 0 <= magnitude <= 30):
        raise ValueError("needs 1 <= layers <= 10 and 0 <= magnitude <= 30")
    for layer in range(layers):
        draws = _part(context, layer)
        changes = list(_randaugment_changes(image, magnitude / 10, draws).values())
        image = _one_of(_index(draws, len(changes)), changes, image)
    return image


def _randaugment_changes(image: tf.Tensor, strength: float, context: Context) -> Mapping[str, Change]:
    (sign,) = tf.unstack(_signs(_part(context, 1), 1))
    height, width = _sides(image)
    far, factor = sign * 100 / _SIDE * strength, 0.1 + 1.8 * strength
    half = tf.cast(tf.round(tf.minimum(height, width) * (40 / _SIDE * strength)), tf.int32)
    return {
        "autocontrast": autocontrasted,
        "equalize": equalized,
        "invert": inverted,
        "rotate": lambda x: rotated(x, sign * 30 * strength),
        "posterize": lambda x: posterized(x, int(4 * strength)),
        "solarize": lambda x: solarized(x, int(256 * strength)),
        "color": lambda x: saturated(x, factor),
        "contrast": lambda x: contrasted(x, factor),
        "brightness": lambda x: brightened(x, factor),
        "sharpness": lambda x: sharpened(x, factor),
        "shear_x": lambda x: sheared_x(x, sign * 0.3 * strength),
        "shear_y": lambda x: sheared_y(x, sign * 0.3 * strength),
        "translate_x": lambda x: translated(x, right=far * width),
        "translate_y": lambda x: translated(x, down=far * height),
        "cutout": lambda x: cut_out(x, half, _part(context, 2)),
        "solarize_add": lambda x: solarize_added(x, int(110 * strength)),
    }


@dataclasses.dataclass(frozen=True)
class Largest:
    """The largest amounts of a table: slope, degrees, factor away from 1, bits dropped."""

    shear: float
    turn: float
    factor: float
    bits: int


NARROW = Largest(shear=0.3, turn=30.0, factor=0.9, bits=4)
WIDE = Largest(shear=0.99, turn=135.0, factor=0.99, bits=6)


@op
def trivial_augment(image: tf.Tensor, context: Context) -> tf.Tensor:
    """One change of random strength, both drawn uniformly (TrivialAugment, arXiv 2103.10158, its wide space).

    14 changes, one of which does nothing; strengths 0, 1/30, ..., 1 of: shear 0.99, translate 32 pixels, rotate 135
    degrees, brightness, colour, contrast and sharpness factor 1 +- 0.99, posterize from 8 down to 2 bits, solarize from
    255 down to 0.
    """
    (sign,) = tf.unstack(_signs(_part(context, 1), 1))
    strength = tf.cast(_index(_part(context, 2), 31), tf.float32) / 30
    changes = {"identity": tf.identity, **_changes(strength, sign, WIDE, 32.0, 32.0)}
    return _one_of(_index(_part(context, 3), len(changes)), list(changes.values()), image)


def _changes(strength: Amount, sign: tf.Tensor, most: Largest, right: Amount, down: Amount) -> Mapping[str, Change]:
    """torchvision's table at `strength` (0 to 1) of the largest amounts; `right` and `down` are pixels."""
    signed = sign * strength
    factor = 1 + signed * most.factor
    return {
        "shear_x": lambda x: sheared_x(x, signed * most.shear),
        "shear_y": lambda x: sheared_y(x, signed * most.shear),
        "translate_x": lambda x: translated(x, right=tf.round(signed * right)),
        "translate_y": lambda x: translated(x, down=tf.round(signed * down)),
        "rotate": lambda x: rotated(x, signed * most.turn),
        "brightness": lambda x: brightened(x, factor),
        "color": lambda x: saturated(x, factor),
        "contrast": lambda x: contrasted(x, factor),
        "sharpness": lambda x: sharpened(x, factor),
        "posterize": lambda x: posterized(x, 8 - tf.cast(tf.round(strength * most.bits), tf.int32)),
        "solarize": lambda x: solarized(x, 255 * (1 - strength)),
        "autocontrast": autocontrasted,
        "equalize": equalized,
    }


@op
def autoaugment(image: tf.Tensor, context: Context, policy: str = "imagenet") -> tf.Tensor:
    """One of 25 learned pairs of changes, drawn uniformly (AutoAugment, arXiv 1805.09501).

    Each change of the pair has a probability and a level from 0 to 9, in ninths of: shear 0.3, translate 150/331 of the
    side, rotate 30 degrees, brightness, colour, contrast and sharpness factor 1 +- 0.9, posterize from 8 down to 4
    bits, solarize from 255 down to 0. Amounts are torchvision's, whose factors go from 1 in a random direction; the
    paper's go from 0.1 to 1.9.

    Raises:
      ValueError: `policy` is not `imagenet`, `cifar10` or `svhn`.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy = {policy!r} must be one of {', '.join(POLICIES)}")
    height, width = _sides(image)
    draws = uniform(_part(context, 1), 2)
    signs = _signs(_part(context, 2), 2)
    pair = _index(_part(context, 3), len(POLICIES[policy]))
    for i in range(2):
        names, probabilities, levels = zip(*(changes[i] for changes in POLICIES[policy]), strict=True)
        strength = tf.gather(tf.constant(levels, tf.float32), pair) / 9
        table = _changes(strength, signs[i], NARROW, width * (150 / 331), height * (150 / 331))
        table = {"identity": tf.identity, "invert": inverted, **table}
        number = tf.gather(tf.constant([list(table).index(name) for name in names]), pair)
        taken = draws[i] < tf.gather(tf.constant(probabilities, tf.float32), pair)
        image = _one_of(tf.where(taken, number, 0), list(table.values()), image)
    return image


@op
def color_jitter(
    image: tf.Tensor,
    context: Context,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.0,
) -> tf.Tensor:
    """Random brightness, contrast, saturation and hue, in random order, as torchvision's ColorJitter.

    The first three multiply by a factor from max(0, 1 - x) to 1 + x, the hue turns by up to `hue` of the colour circle
    either way; 0 leaves one out.

    Raises:
      ValueError: an amount is negative, or hue is above 0.5.
    """
    if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
        raise ValueError("needs amounts of at least 0, and hue of at most 0.5")
    draws = tf.unstack(uniform(_part(context, 1), 4))

    def factor(number: int, amount: float) -> tf.Tensor:
        low = max(0.0, 1.0 - amount)
        return low + draws[number] * (1.0 + amount - low)

    changes: list[Change] = []
    if brightness:
        changes.append(lambda x: brightened(x, factor(0, brightness)))
    if contrast:
        changes.append(lambda x: contrasted(x, factor(1, contrast)))
    if saturation:
        changes.append(lambda x: saturated(x, factor(2, saturation)))
    if hue:
        changes.append(lambda x: hue_shifted(x, (2 * draws[3] - 1) * hue))
    order = tf.argsort(uniform(_part(context, 2), len(changes)))
    for number in tf.unstack(order):
        image = _one_of(number, changes, image)
    return image


@op
def three_augment(image: tf.Tensor, context: Context, jitter: float = 0.3) -> tf.Tensor:
    """Grayscale, solarize or blur, one of the three each time, then colour jitter: DeiT III's (arXiv 2204.07118).

    Solarize inverts from 128 on, blur has a sigma of 0.1 to 2 pixels, and `jitter` is the amount of brightness,
    contrast and saturation.
    """
    changes: list[Change] = [
        grayed,
        lambda x: solarized(x, 128.0),
        lambda x: gaussian_blur(x, _part(context, 1), probability=1.0),
    ]
    image = _one_of(_index(_part(context, 2), len(changes)), changes, image)
    return color_jitter(image, _part(context, 3), jitter, jitter, jitter)


@op
def gaussian_blur(
    image: tf.Tensor, context: Context, probability: float = 0.5, sigma_min: float = 0.1, sigma_max: float = 2.0
) -> tf.Tensor:
    """Blurs with this probability, by a sigma drawn uniformly, in pixels (SimCLR, DINO: 0.1 to 2).

    Raises:
      ValueError: the probability is not in 0..1, or not 0 < sigma_min <= sigma_max <= 10.
    """
    _check_probability(probability)
    if not 0 < sigma_min <= sigma_max <= 10:
        raise ValueError("needs 0 < sigma_min <= sigma_max <= 10")
    draw, place = tf.unstack(uniform(context, 2))
    sigma = sigma_min + place * (sigma_max - sigma_min)
    return _sometimes(draw, probability, lambda x: blurred(x, sigma, math.ceil(4 * sigma_max)), image)


@op
def grayscale(image: tf.Tensor, context: Context, probability: float = 0.2) -> tf.Tensor:
    """Luma in all channels, with this probability.

    Raises:
      ValueError: the probability is not in 0..1.
    """
    _check_probability(probability)
    return _sometimes(uniform(context, 1)[0], probability, grayed, image)


@op
def solarize(image: tf.Tensor, context: Context, probability: float = 0.2, threshold: int = 128) -> tf.Tensor:
    """Inverts values from `threshold` on, with this probability.

    Raises:
      ValueError: the probability is not in 0..1, or the threshold not in 0..256.
    """
    _check_probability(probability)
    if not 0 <= threshold <= 256:
        raise ValueError(f"threshold = {threshold} must be between 0 and 256")
    return _sometimes(uniform(context, 1)[0], probability, lambda x: solarized(x, float(threshold)), image)


@op
def random_erasing(
    image: tf.Tensor,
    context: Context,
    probability: float = 0.25,
    area_min: float = 0.02,
    area_max: float = 1 / 3,
    aspect_min: float = 0.3,
    fill: str = "noise",
) -> tf.Tensor:
    """Replaces a box of `area_min`..`area_max` of the picture, with this probability (arXiv 1708.04896).

    Height over width is drawn from `aspect_min` to 1 / `aspect_min`, evenly in its logarithm; a box that does not fit
    is drawn again, up to ten in all. `fill` is `noise` (each value uniform in 0..255, the paper's best) or `gray`.

    Raises:
      ValueError: an argument is out of its range.
    """
    _check_probability(probability)
    if not (0 < area_min <= area_max < 1 and 0 < aspect_min <= 1):
        raise ValueError("needs 0 < area_min <= area_max < 1 and 0 < aspect_min <= 1")
    if fill not in ("noise", "gray"):
        raise ValueError(f"fill = {fill!r} must be noise or gray")

    def erase(x: tf.Tensor) -> tf.Tensor:
        top, left, bottom, right = _erased_box(x, _part(context, 1), area_min, area_max, aspect_min)
        noise = tf.random.stateless_uniform(tf.shape(x), _part(context, 2).seed, 0, 256, tf.int32)
        by = tf.cast(noise, tf.uint8) if fill == "noise" else tf.constant(FILL, tf.uint8)
        return _replaced(x, top, left, bottom, right, by)

    return _sometimes(uniform(context, 1)[0], probability, erase, image)


def _erased_box(
    image: tf.Tensor, context: Context, area_min: float, area_max: float, aspect_min: float
) -> tuple[tf.Tensor, ...]:
    """(top, left, bottom, right) of the first box that fits; empty if none does."""
    sides = tf.stack(_sides(image))
    draws = tf.random.stateless_uniform((_ERASING_TRIES, 2), context.seed)
    area = (area_min + draws[:, 0] * (area_max - area_min)) * tf.reduce_prod(sides)
    aspect = tf.exp((2 * draws[:, 1] - 1) * math.log(aspect_min))
    boxes = tf.round(tf.sqrt(tf.stack([area * aspect, area / aspect], axis=1)))
    fits = tf.reduce_all(boxes <= sides, axis=1)
    box = tf.where(tf.reduce_any(fits), boxes[tf.argmax(fits, output_type=tf.int32)], 0.0)
    start = tf.floor(uniform(_part(context, 1), 2) * (sides - box + 1))
    return tuple(tf.unstack(tf.cast(tf.concat([start, start + box], axis=0), tf.int32)))


def _policy(text: str) -> tuple[tuple[tuple[str, float, int], ...], ...]:
    """`name probability level + name probability level`, one pair a comma."""
    pairs = [[change.split() for change in pair.split("+")] for pair in text.split(",")]
    return tuple(tuple((name, float(p), int(level)) for name, p, level in pair) for pair in pairs)


# The paper's tables: (change, probability, level) twice for each of 25 pairs.
POLICIES = {
    "imagenet": _policy(
        """
        posterize .4 8 + rotate .6 9, solarize .6 5 + autocontrast .6 0, equalize .8 0 + equalize .6 0,
        posterize .6 7 + posterize .6 6, equalize .4 0 + solarize .2 4, equalize .4 0 + rotate .8 8,
        solarize .6 3 + equalize .6 0, posterize .8 5 + equalize 1 0, rotate .2 3 + solarize .6 8,
        equalize .6 0 + posterize .4 6, rotate .8 8 + color .4 0, rotate .4 9 + equalize .6 0,
        equalize 0 0 + equalize .8 0, invert .6 0 + equalize 1 0, color .6 4 + contrast 1 8,
        rotate .8 8 + color 1 2, color .8 8 + solarize .8 7, sharpness .4 7 + invert .6 0,
        shear_x .6 5 + equalize 1 0, color .4 0 + equalize .6 0, equalize .4 0 + solarize .2 4,
        solarize .6 5 + autocontrast .6 0, invert .6 0 + equalize 1 0, color .6 4 + contrast 1 8,
        equalize .8 0 + equalize .6 0
        """
    ),
    "cifar10": _policy(
        """
        invert .1 0 + contrast .2 6, rotate .7 2 + translate_x .3 9, sharpness .8 1 + sharpness .9 3,
        shear_y .5 8 + translate_y .7 9, autocontrast .5 0 + equalize .9 0, shear_y .2 7 + posterize .3 7,
        color .4 3 + brightness .6 7, sharpness .3 9 + brightness .7 9, equalize .6 0 + equalize .5 0,
        contrast .6 7 + sharpness .6 5, color .7 7 + translate_x .5 8, equalize .3 0 + autocontrast .4 0,
        translate_y .4 3 + sharpness .2 6, brightness .9 6 + color .2 8, solarize .5 2 + invert 0 0,
        equalize .2 0 + autocontrast .6 0, equalize .2 0 + equalize .6 0, color .9 9 + equalize .6 0,
        autocontrast .8 0 + solarize .2 8, brightness .1 3 + color .7 0, solarize .4 5 + autocontrast .9 0,
        translate_y .9 9 + translate_y .7 9, autocontrast .9 0 + solarize .8 3, equalize .8 0 + invert .1 0,
        translate_y .7 9 + autocontrast .9 0
        """
    ),
    "svhn": _policy(
        """
        shear_x .9 4 + invert .2 0, shear_y .9 8 + invert .7 0, equalize .6 0 + solarize .6 6,
        invert .9 0 + equalize .6 0, equalize .6 0 + rotate .9 3, shear_x .9 4 + autocontrast .8 0,
        shear_y .9 8 + invert .4 0, shear_y .9 5 + solarize .2 6, invert .9 0 + autocontrast .8 0,
        equalize .6 0 + rotate .9 3, shear_x .9 4 + solarize .3 3, shear_y .8 8 + invert .7 0,
        equalize .9 0 + translate_y .6 6, invert .9 0 + equalize .6 0, contrast .3 3 + rotate .8 4,
        invert .8 0 + translate_y 0 2, shear_y .7 6 + solarize .4 8, invert .6 0 + rotate .8 4,
        shear_y .3 7 + translate_x .9 3, shear_x .1 6 + invert .6 0, solarize .7 2 + translate_y .6 7,
        shear_y .8 4 + invert .8 0, shear_x .7 9 + translate_y .8 3, shear_y .8 5 + autocontrast .7 0,
        shear_x .7 2 + invert .1 0
        """
    ),
}
