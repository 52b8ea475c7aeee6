"""libjpeg-turbo for windows of JPEGs: through its own C interface where version 3 is installed, else TensorFlow's copy.

Both give the very pixels of a full decode, with the accurate DCT that Pillow, OpenCV and PyTorch use; the C interface
needs no copy of the data and no new memory, which saves an eighth of the time. It comes with the system
(`libturbojpeg.so.0` of version 3), conda, or the wheel `turbojpeg`.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# Where a window ends, libjpeg upsamples colours as if the picture ended there; so far from it this is not seen.
_MARGIN = 2
_BUFFER = 1 << 24  # bytes that each thread keeps; larger windows get memory of their own

# Of turbojpeg.h.
_DECOMPRESS, _RGB, _GRAY = 1, 0, 6
_SUBSAMPLING = 4
_MCU_WIDTHS = (8, 16, 16, 8, 8, 32, 8)  # by subsampling: 4:4:4, 4:2:2, 4:2:0, gray, 4:4:0, 4:1:1, 4:4:1


class JpegError(Exception):
    """libjpeg-turbo refuses a JPEG; the message is its own."""


def decode_window(
    data: bytes, size: tuple[int, int], window: tuple[int, int, int, int], channels: int, scale: int = 1
) -> np.ndarray:
    """A window of a JPEG.

    Args:
      data: a whole JPEG of 1 or 3 colours.
      size: its (height, width).
      window: (top, left, height, width) within the picture at 1/scale of its size.
      channels: 3 for RGB, 1 for luma.
      scale: 1, 2, 4 or 8; larger ones decode a smaller picture, of which sides are rounded up.

    Returns:
      uint8 (height, width, channels); valid until this thread decodes again.

    Raises:
      JpegError: it is broken.
    """
    top, left, height, width = window
    start = max(left - _MARGIN, 0)
    end = min(left + width + _MARGIN, -(-size[1] // scale))
    wide = top, start, height, end - start
    library = _library()
    pixels = None if library is None else library.decode(data, wide, channels, scale)
    if pixels is None:
        pixels = _decode_with_tensorflow(data, wide, channels, scale)
    return pixels[:, left - start : left - start + width]


def _decode_with_tensorflow(data: bytes, window: tuple[int, int, int, int], channels: int, scale: int) -> np.ndarray:
    try:
        found = tf.raw_ops.DecodeAndCropJpeg(
            contents=data, crop_window=window, channels=channels, ratio=scale, dct_method="INTEGER_ACCURATE"
        )
    except tf.errors.OpError as error:
        raise JpegError(str(error).split("}} ")[-1]) from None
    return np.asarray(memoryview(found))  # `numpy()` would copy


class _Region(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int), ("width", ctypes.c_int), ("height", ctypes.c_int))


class _Fraction(ctypes.Structure):
    _fields_ = (("numerator", ctypes.c_int), ("denominator", ctypes.c_int))


class _TurboJpeg:
    """The functions of TurboJPEG 3 that decode; each thread has an instance of the decoder and a buffer."""

    def __init__(self, path: str):
        library = ctypes.CDLL(path)
        handle, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self._local = threading.local()
        self._init = _function(library.tj3Init, handle, number)
        self._destroy = _function(library.tj3Destroy, None, handle)
        self._header = _function(library.tj3DecompressHeader, number, handle, ctypes.c_char_p, size)
        self._get = _function(library.tj3Get, number, handle, number)
        self._scale = _function(library.tj3SetScalingFactor, number, handle, _Fraction)
        self._crop = _function(library.tj3SetCroppingRegion, number, handle, _Region)
        self._decompress = _function(
            library.tj3Decompress8, number, handle, ctypes.c_char_p, size, handle, number, number
        )

    def decode(self, data: bytes, window: tuple[int, int, int, int], channels: int, scale: int) -> np.ndarray | None:
        """The window, or None where anything is unusual: TensorFlow then says what to think of it."""
        handle, buffer = self._own()
        found = self._decode(handle, buffer, data, window, channels, scale)
        if found is None:
            del self._local.decoder  # after an error it may be of no use
        return found

    def _decode(
        self, handle: int, buffer: np.ndarray, data: bytes, window: tuple[int, int, int, int], channels: int, scale: int
    ) -> np.ndarray | None:
        if self._header(handle, data, len(data)):
            return None
        subsampling = self._get(handle, _SUBSAMPLING)
        if not 0 <= subsampling < len(_MCU_WIDTHS):
            return None
        top, left, height, width = window
        start = left - left % -(-_MCU_WIDTHS[subsampling] // scale)
        shape = height, left + width - start, channels
        size = shape[0] * shape[1] * channels
        memory = buffer if size <= _BUFFER else np.empty(size, np.uint8)
        pitch, kind = shape[1] * channels, _RGB if channels == 3 else _GRAY
        if (
            self._scale(handle, _Fraction(1, scale))
            or self._crop(handle, _Region(start, top, shape[1], height))
            or self._decompress(handle, data, len(data), memory.ctypes.data, pitch, kind)
        ):
            return None
        return memory[:size].reshape(shape)[:, left - start :]

    def _own(self) -> tuple[int, np.ndarray]:
        if not hasattr(self._local, "decoder"):
            self._local.decoder = _Decoder(self._init(_DECOMPRESS), self._destroy)
        return self._local.decoder.handle, self._local.decoder.buffer


class _Decoder:
    def __init__(self, handle: int, destroy: Any):
        self.handle, self._destroy = handle, destroy
        self.buffer = np.empty(_BUFFER, np.uint8)

    def __del__(self) -> None:
        self._destroy(self.handle)


def _function(function: Any, gives: Any, *takes: Any) -> Any:
    function.restype, function.argtypes = gives, takes
    return function


@functools.cache
def _library() -> _TurboJpeg | None:
    for path in _candidates():
        try:
            return _TurboJpeg(path)
        except (OSError, AttributeError):  # not there, or an older version
            continue
    return None


def _candidates() -> list[str]:
    """Where libturbojpeg may lie: in the system, then in the wheel."""
    found = [path] if (path := ctypes.util.find_library("turbojpeg")) else []
    wheel = importlib.util.find_spec("turbojpeg")
    if wheel is not None and wheel.origin is not None:
        found += sorted(map(str, Path(wheel.origin).parent.glob("turbojpeg.libs/libturbojpeg*")))
    return found
