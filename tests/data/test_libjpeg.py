"""Windows of JPEGs against full decodes by Pillow, which has a libjpeg-turbo of its own."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from vit_jax.data import libjpeg

pytestmark = pytest.mark.needs_tf


@pytest.fixture(params=["tensorflow", "turbojpeg"], autouse=True)
def library(request, monkeypatch):
    """Both ways to decode; the second only where it is installed."""
    if request.param == "tensorflow":
        monkeypatch.setattr(libjpeg, "_library", lambda: None)
    elif libjpeg._library() is None:
        pytest.skip("version 3 of libturbojpeg is not installed")


def picture(height, width, seed=0):
    """Colourful noise, smooth enough for a JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, **options)
    return file.getvalue()


def windows(height, width, number=12):
    rng = np.random.default_rng(1)
    for _ in range(number):
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        yield int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    yield 0, 0, height, width
    yield height - 1, width - 1, 1, 1


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(150, 203), (33, 7)])
def test_a_window_holds_the_very_pixels_of_the_whole_picture(subsampling, progressive, size):
    data = jpeg(picture(*size), subsampling=subsampling, progressive=progressive)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    for window in windows(*size):
        top, left, height, width = window
        found = libjpeg.decode_window(data, size, window, 3)
        assert np.array_equal(found, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("colour", [False, True])
def test_one_channel_is_the_luma_that_the_file_stores(colour):
    data = jpeg(picture(60, 90) if colour else picture(60, 90).convert("L"))
    image = Image.open(io.BytesIO(data))
    image.draft("L", None)  # makes Pillow ask libjpeg for the luma, too
    whole = np.asarray(image)
    for window in windows(60, 90):
        top, left, height, width = window
        found = libjpeg.decode_window(data, (60, 90), window, 1)
        assert np.array_equal(found[..., 0], whole[top : top + height, left : left + width])


def test_a_gray_jpeg_gives_three_equal_channels():
    data = jpeg(picture(60, 90).convert("L"))
    found = libjpeg.decode_window(data, (60, 90), (3, 4, 50, 60), 3)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(found, np.repeat(whole[3:53, 4:64, None], 3, axis=-1))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_window_at_a_smaller_scale_is_part_of_the_smaller_picture(scale):
    data = jpeg(picture(150, 203))
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (203 // scale, 150 // scale))
    whole = np.asarray(image)
    assert whole.shape[:2] == (-(-150 // scale), -(-203 // scale))
    for window in windows(*whole.shape[:2]):
        top, left, height, width = window
        found = libjpeg.decode_window(data, (150, 203), window, 3, scale)
        assert np.array_equal(found, whole[top : top + height, left : left + width])


def test_a_window_larger_than_the_kept_buffer_is_decoded(monkeypatch):
    monkeypatch.setattr(libjpeg, "_BUFFER", 1000)
    data = jpeg(picture(60, 90))
    found = libjpeg.decode_window(data, (60, 90), (0, 0, 60, 90), 3)
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(data))))


def test_a_broken_jpeg_is_refused():
    data = jpeg(picture(60, 90))
    with pytest.raises(libjpeg.JpegError):
        libjpeg.decode_window(data[:2] + data[200:], (60, 90), (0, 0, 60, 90), 3)


def test_threads_do_not_disturb_each_other():
    pictures = [jpeg(picture(120, 160, seed)) for seed in range(8)]
    wholes = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures]
    wrong = []

    def decode(number):
        for _ in range(20):
            found = libjpeg.decode_window(pictures[number], (120, 160), (10, 20, 100, 120), 3)
            if not np.array_equal(found, wholes[number][10:110, 20:140]):
                wrong.append(number)

    threads = [threading.Thread(target=decode, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
