"""Host operations: the geometry of a picture, see `vit_jax.data.ops`."""

import math

from vit_jax.data.ops import HostContext, host_op
from vit_jax.data.picture import BadImage, Picture
from vit_jax.data.settings import RESIZE_SMALL_RATIO

ATTEMPTS = 10  # shapes that `inception_crop` tries before it takes the whole picture


@host_op()
def decode(picture: Picture, context: HostContext, fast: bool = False) -> None:
    """JPEG, PNG, WebP, BMP or GIF (first frame) bytes -> uint8 with the configured number of channels.

    `fast` decodes JPEGs that shrink to less than a half, fourth or eighth at that scale: sharper, and not quite what a
    full decode gives.
    """
    picture.decode(context.channels, fast)


@host_op()
def resize(picture: Picture, context: HostContext, ratio: float = 1.0) -> None:
    """To `ratio` times the image size, bilinear with antialiasing; the aspect ratio may change."""
    height, width = (round(side * ratio) for side in context.size)
    if height < 1 or width < 1:
        raise ValueError("ratio is too small")
    picture.resize(height, width, antialias=True)


@host_op()
def resize_small(picture: Picture, context: HostContext, ratio: float = RESIZE_SMALL_RATIO) -> None:
    """Shorter side to `ratio` times the image size's longer one (224 -> 256), keeping the aspect ratio."""
    side = round(max(context.size) * ratio)
    if side < 1:
        raise ValueError("ratio is too small")
    scale = side / min(picture.height, picture.width)
    picture.resize(round(picture.height * scale), round(picture.width * scale), antialias=True)


@host_op()
def central_crop(picture: Picture, context: HostContext) -> None:
    """The middle of the image; images that are too small are padded with black."""
    height, width = context.size
    picture.crop(_middle(picture.height, height), _middle(picture.width, width), height, width)


def _middle(side: int, wanted: int) -> int:
    return (side - wanted) // 2 if side >= wanted else -((wanted - side) // 2)


@host_op(draws=2)
def random_crop(picture: Picture, context: HostContext, pad: int = 0) -> None:
    """A window of the image size at a random place, after padding each side with `pad` black pixels."""
    if pad < 0:
        raise ValueError("pad must be non-negative")
    height, width = context.size
    down, right = picture.height + 2 * pad - height, picture.width + 2 * pad - width
    if down < 0 or right < 0:
        raise BadImage(f"is {picture.height}x{picture.width}, too small for random_crop({pad}) of {height}x{width}")
    y, x = context.draws
    picture.crop(int(y * (down + 1)) - pad, int(x * (right + 1)) - pad, height, width)


@host_op(draws=ATTEMPTS + 3)
def inception_crop(
    picture: Picture, context: HostContext, area_min: float = 0.05, area_max: float = 1.0, aspect: float = 4 / 3
) -> None:
    """A random window of `area_min`..`area_max` of the area and 1/`aspect`..`aspect` of the shape, resized.

    As in `tf.image.sample_distorted_bounding_box`, the shape is uniform, then the height among those that fit; a
    picture too long for any such window is taken whole.
    """
    if not 0 < area_min <= area_max <= 1 <= aspect:
        raise ValueError("needs 0 < area_min <= area_max <= 1 <= aspect")
    *shapes, y, x, size = context.draws
    area = picture.height * picture.width
    for draw in shapes:
        shape = 1 / aspect + draw * (aspect - 1 / aspect)
        low = max(1, round(math.sqrt(area_min * area / shape)))
        high = min(picture.height, int((picture.width + 0.5) / shape), round(math.sqrt(area_max * area / shape)))
        if low <= high:
            height = low + int(size * (high - low + 1))
            width = min(max(1, round(height * shape)), picture.width)
            top, left = int(y * (picture.height - height + 1)), int(x * (picture.width - width + 1))
            picture.crop(top, left, height, width)
            break
    picture.resize(*context.size, antialias=False)


@host_op(draws=1)
def flip(picture: Picture, context: HostContext) -> None:
    """Mirrors left and right, every other time."""
    if context.draws[0] < 0.5:
        picture.mirror()
