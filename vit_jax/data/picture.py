"""A picture that is decoded as late and as little as possible, and the decoders.

Operations say what they want (a window, another size, the mirror image); pixels are made once, at the end: of a JPEG
only the window is decoded, and it is resized straight into its place in the batch.
"""

import io
import math
import struct
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from vit_jax.data import libjpeg

cv2.setNumThreads(0)  # parallel over pictures, not inside of them

_START_OF_FRAME = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive: what libjpeg-turbo decodes in part
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112


class BadImage(Exception):
    """A picture that cannot be used; the message says why and can follow its name."""


class Box(NamedTuple):
    """A rectangle in pixels; pixel (0, 0) covers the square from (0, 0) to (1, 1)."""

    top: float
    left: float
    height: float
    width: float


class Picture:
    """A picture with pending changes.

    Attributes:
      height: in pixels, after all changes so far.
      width: likewise.
    """

    __slots__ = (
        "_antialias",
        "_bounds",
        "_box",
        "_channels",
        "_fast",
        "_full",
        "_mirrored",
        "_source",
        "height",
        "width",
    )

    def __init__(self, source: bytes | np.ndarray):
        """Takes encoded bytes, or pixels uint8 (height, width, channels)."""
        self._source = source
        self._channels = 0
        self._fast = False
        self._full = (0, 0)  # size of a JPEG
        if isinstance(source, np.ndarray):
            self._restart(source)

    def _restart(self, pixels: np.ndarray) -> None:
        self._source, self._channels = pixels, pixels.shape[-1]
        self._reset(*pixels.shape[:2])

    def _reset(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._bounds = (0, 0, height, width)  # of the source, what may be looked at
        self._box: Box | None = None  # of the source, what is resized to (height, width); None: nothing is resized
        self._antialias = self._mirrored = False

    def decode(self, channels: int, fast: bool = False) -> None:
        """Makes the bytes a picture of 3 channels (RGB) or 1 (luma).

        Args:
          channels: 3 or 1.
          fast: allows to decode JPEGs that will shrink to less than half at a smaller scale.

        Raises:
          BadImage: they are not an image, or a broken one.
        """
        if isinstance(self._source, np.ndarray):
            raise ValueError("is decoded already")
        size = jpeg_size(self._source)
        if size is None:
            self._restart(decode_whole(self._source, channels))
        else:
            self._channels, self._fast, self._full = channels, fast, size
            self._reset(*size)

    def crop(self, top: int, left: int, height: int, width: int) -> None:
        """Takes a window; what lies outside of the picture is black."""
        self._need_decoded()
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + height, self.height), min(left + width, self.width)
        if (y0, x0, y1, x1) == (top, left, top + height, left + width):
            self._crop_inside(top, left, height, width)
            return
        padded = np.zeros((height, width, self._channels), np.uint8)
        if y0 < y1 and x0 < x1:
            self._crop_inside(y0, x0, y1 - y0, x1 - x0)
            padded[y0 - top : y1 - top, x0 - left : x1 - left] = self.pixels()
        self._restart(padded)

    def _crop_inside(self, top: int, left: int, height: int, width: int) -> None:
        if self._mirrored:
            left = self.width - left - width
        if self._box is not None and not self._antialias:
            self._settle()
        if self._box is None:
            self._bounds = (self._bounds[0] + top, self._bounds[1] + left, height, width)
        else:
            y, x = self._box.height / self.height, self._box.width / self.width
            self._box = Box(self._box.top + top * y, self._box.left + left * x, height * y, width * x)
        self.height, self.width = height, width

    def resize(self, height: int, width: int, antialias: bool) -> None:
        """Bilinear with half-pixel centres, as `tf.image.resize`; antialiased with a triangle filter where it shrinks.

        Args:
          height: wanted.
          width: wanted.
          antialias: without it, a picture that shrinks is sampled with two by two pixels.
        """
        self._need_decoded()
        if (height, width) == (self.height, self.width):
            return
        if self._box is not None:
            self._settle()
        self._antialias = antialias and (height < self.height or width < self.width)
        self._box = Box(*self._bounds)
        self.height, self.width = height, width

    def mirror(self) -> None:
        """Swaps left and right."""
        self._need_decoded()
        self._mirrored = not self._mirrored

    def pixels(self) -> np.ndarray:
        """The picture as it is now: uint8 (height, width, channels).

        Raises:
          BadImage: it cannot be decoded.
        """
        self._need_decoded()
        out = np.empty((self.height, self.width, self._channels), np.uint8)
        self.write(out)
        return out

    def write(self, out: np.ndarray) -> None:
        """Puts the picture into a C-contiguous array of its shape; raises like `pixels`."""
        if self._box is None:
            pixels = self._decoded(self._bounds, 1)
            cv2.flip(pixels, 1, dst=_plane(out)) if self._mirrored else np.copyto(out, pixels)
        elif self._antialias:
            self._resample(self._box, out)
        else:
            self._sample(out)

    def _need_decoded(self) -> None:
        if not self._channels:
            raise ValueError("needs a picture, not bytes")

    def _settle(self) -> None:
        """Carries out all changes so far."""
        mirrored, self._mirrored = self._mirrored, False
        self._restart(self.pixels())
        self._mirrored = mirrored

    def _scale(self, box: Box) -> int:
        """How much smaller a JPEG may be decoded: 1, 2, 4 or 8."""
        if not self._fast:
            return 1
        shrinks = min(box.height / self.height, box.width / self.width)
        return next(scale for scale in (8, 4, 2, 1) if shrinks >= scale or scale == 1)

    def _decoded(self, window: tuple[int, int, int, int], scale: int) -> np.ndarray:
        """A window of the source, of a JPEG at 1/scale of its size."""
        if isinstance(self._source, np.ndarray):
            top, left, height, width = window
            return self._source[top : top + height, left : left + width]
        try:
            return libjpeg.decode_window(self._source, self._full, window, self._channels, scale)
        except libjpeg.JpegError as error:
            raise BadImage(f"is a broken JPEG ({reason(error)})") from None

    def _sample(self, out: np.ndarray) -> None:
        """Resizes the whole bounds without antialiasing."""
        box = Box(*self._bounds)
        scale = self._scale(box)
        window = self._bounds if scale == 1 else _scaled(box, scale)
        pixels = self._decoded(window, scale)
        first = self._mirrored and pixels.size < out.size  # mirror what is smaller
        if first:
            pixels = cv2.flip(_plane(pixels), 1)
        cv2.resize(_plane(pixels), (self.width, self.height), dst=_plane(out), interpolation=cv2.INTER_LINEAR)
        if self._mirrored and not first:
            cv2.flip(_plane(out), 1, dst=_plane(out))

    def _resample(self, box: Box, out: np.ndarray) -> None:
        """Resizes a box of the source, looking at all pixels of the bounds that the filter reaches."""
        scale = self._scale(box)
        down, right = (math.ceil(max(side, 1.0)) + scale for side in (box.height / self.height, box.width / self.width))
        top, left, height, width = self._bounds
        y0, y1 = max(top, math.floor(box.top) - down), min(top + height, math.ceil(box.top + box.height) + down)
        x0, x1 = max(left, math.floor(box.left) - right), min(left + width, math.ceil(box.left + box.width) + right)
        window = Box(y0, x0, y1 - y0, x1 - x0)
        y0, x0, height, width = _scaled(window, scale)
        pixels = self._decoded((y0, x0, height, width), scale)
        y, x = box.top / scale - y0, box.left / scale - x0
        edges = (x, y, min(x + box.width / scale, width), min(y + box.height / scale, height))
        image = Image.fromarray(_plane(np.ascontiguousarray(pixels)))
        found = np.asarray(image.resize((self.width, self.height), Image.Resampling.BILINEAR, box=edges))
        np.copyto(_plane(out), found[:, ::-1] if self._mirrored else found)


def _scaled(box: Box, scale: int) -> tuple[int, int, int, int]:
    """The whole pixels of a picture of 1/scale the size that cover a box of the full one."""
    top, left = math.floor(box.top / scale), math.floor(box.left / scale)
    bottom, right = math.ceil((box.top + box.height) / scale), math.ceil((box.left + box.width) / scale)
    return top, left, bottom - top, right - left


def _plane(pixels: np.ndarray) -> np.ndarray:
    """Without the axis of a single channel, which OpenCV and Pillow do not know."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG that can be decoded in part; None for everything else.

    Everything else is other formats, JPEGs that their EXIF data turns, and those of four colours.

    Raises:
      BadImage: a JPEG that breaks off or has no sense.
    """
    if data[:2] != b"\xff\xd8":
        return None
    position = 2
    try:
        while True:
            while data[position] == 0xFF and data[position + 1] == 0xFF:  # fill bytes
                position += 1
            marker, length = data[position + 1], data[position + 2] << 8 | data[position + 3]
            if data[position] != 0xFF or marker == _START_OF_SCAN or length < 2:
                raise BadImage("is a JPEG with a broken header")
            body = position + 4
            if marker in _START_OF_FRAME:
                break
            if 0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                return None
            if marker == 0xE1 and data[body : body + 6] == _EXIF and _turned(data[body + 6 : position + 2 + length]):
                return None
            position += 2 + length
        height, width = data[body + 1] << 8 | data[body + 2], data[body + 3] << 8 | data[body + 4]
        colours = data[body + 5]
    except IndexError:
        raise BadImage("is a JPEG that breaks off in its header") from None
    if data.rfind(_END_OF_IMAGE, body) < 0:  # libjpeg would fill the rest with gray
        raise BadImage("is a JPEG that breaks off")
    return (height, width) if colours in (1, 3) and height and width else None


def _turned(tiff: bytes) -> bool:
    """Whether EXIF data says that the picture is stored turned or mirrored."""
    order = ">" if tiff[:2] == b"MM" else "<"
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return 2 <= value <= 8
    except struct.error:
        return False
    return False


def decode_whole(data: bytes, channels: int) -> np.ndarray:
    """Any image, turned as its EXIF data says, without transparency: uint8 (height, width, channels).

    Of animations the first frame, of 16 bits the upper 8.

    Raises:
      BadImage: it is not an image, or a broken one.
    """
    if not data:
        raise BadImage("is empty or cannot be read")
    if data[:4] == b"\x89PNG":  # Pillow's conversion of 16 bits clips
        try:
            pixels = tf.raw_ops.DecodePng(contents=data, channels=3).numpy()
        except tf.errors.OpError as error:
            raise BadImage(f"is a broken PNG ({reason(error)})") from None
    else:
        pixels = _decode_with_pillow(data)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None] if channels == 1 else pixels


def _decode_with_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError:
        raise BadImage(f"is no image; it starts with {data[:12]!r}") from None
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise BadImage(f"is a broken image ({reason(error)})") from None


def reason(error: Exception) -> str:
    """What TensorFlow or Pillow says, without the node it says it of."""
    return " ".join(str(error).split("}} ")[-1].split())[:120]
