"""Pictures of all formats and their pending changes, against Pillow, NumPy and TensorFlow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from vit_jax.data import libjpeg
from vit_jax.data.picture import BadImage, Picture

pytestmark = pytest.mark.needs_tf


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def photo(height, width, detail=16):
    """Colours without sharp edges, which JPEG keeps; they change over so many pixels."""
    small = Image.fromarray(noise(height // detail + 2, width // detail + 2, 3))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def decode(data, channels=3):
    picture = Picture(data)
    picture.decode(channels)
    found = picture.pixels()
    assert found.shape == (picture.height, picture.width, channels)
    assert found.dtype == np.uint8
    return found


def of(pixels):
    return Picture(np.ascontiguousarray(pixels))


# formats


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_decode_gives_back_what_a_lossless_encoder_got(kind, options):
    image = noise(7, 5, 3)
    assert np.array_equal(decode(encoded(image, kind, **options)), image)


def test_jpeg_is_decoded_as_pillow_does():
    data = encoded(photo(65, 93), "JPEG", quality=90)
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_lossy_webp_is_near_the_image():
    image = photo(64, 64)
    assert abs(decode(encoded(image, "WEBP", quality=95)).astype(int) - image).mean() < 3


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.fromarray(np.full((6, 6, 3), level, np.uint8)) for level in (40, 200)]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(decode(data), np.full((6, 6, 3), 40)), kind


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_grey_images_become_three_equal_channels_or_stay_as_they_are(kind):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode(encoded(image, kind)), np.repeat(image[..., None], 3, axis=-1))
    assert np.array_equal(decode(encoded(image, kind), channels=1), image[..., None])


def test_grey_jpeg_has_three_equal_channels():
    image = photo(40, 48)[..., 0]
    found = decode(encoded(image, "JPEG", quality=95))
    assert np.array_equal(found, np.repeat(found[..., :1], 3, axis=-1))
    assert abs(found[..., 0].astype(int) - image).max() <= 12


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_one_channel_of_a_colour_image_is_its_luma(kind):
    image = noise(9, 9, 3)
    found = decode(encoded(image, kind), channels=1)
    assert abs(found[..., 0].astype(int) - np.asarray(Image.fromarray(image).convert("L"))).max() <= 1


def test_of_16_bits_the_upper_8_are_taken():
    image = noise(8, 8).astype(np.uint16) * 256 + noise(8, 8)[::-1]
    data = tf.io.encode_png(image[..., None]).numpy()
    assert np.array_equal(decode(data, channels=1)[..., 0], image >> 8)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palettes_are_looked_up(kind):
    image = Image.fromarray(noise(8, 8, 3)).quantize(16)
    assert np.array_equal(decode(encoded(image, kind)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_dropped(kind):
    image = np.concatenate([noise(8, 8, 3), np.full((8, 8, 1), 77, np.uint8)], axis=-1)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(decode(encoded(image, kind, **options)), image[..., :3])


def test_black_and_white_images_of_one_bit():
    bits = noise(9, 11) > 127
    for kind in ("PNG", "BMP"):
        expected = np.repeat(np.where(bits, 255, 0)[..., None], 3, axis=-1)
        assert np.array_equal(decode(encoded(Image.fromarray(bits), kind)), expected)


def test_cmyk_jpeg_has_the_colours_it_was_made_of():
    image = photo(64, 64)
    data = encoded(Image.fromarray(image).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert abs(decode(data).astype(int) - image).mean() < 2


TURNS = {
    1: lambda i: i,
    2: np.fliplr,
    3: lambda i: np.rot90(i, 2),
    4: np.flipud,
    5: lambda i: i.transpose(1, 0, 2),
    6: lambda i: np.rot90(i, -1),
    7: lambda i: np.rot90(i, 2).transpose(1, 0, 2),
    8: lambda i: np.rot90(i, 1),
}


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("order", ["little", "big"])
def test_exif_orientation_is_applied(orientation, order):
    # The eight ways of the EXIF standard to hold a camera; others mean nothing.
    stored = photo(32, 48)
    plain = np.asarray(Image.open(io.BytesIO(encoded(stored, "JPEG", quality=90))))
    exif = Image.Exif()
    exif.endian = "<" if order == "little" else ">"
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    data = encoded(stored, "JPEG", quality=90, exif=exif)
    assert np.array_equal(decode(data), TURNS.get(orientation, TURNS[1])(plain))


def test_a_jpeg_with_an_embedded_thumbnail_and_profile():
    # Both hold bytes that look like the end of a picture, before the picture.
    exif = Image.Exif()
    exif[0x010F] = "\xff\xd9" * 10
    data = encoded(photo(32, 48), "JPEG", exif=exif, icc_profile=b"\xff\xd9" * 40_000)
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))
    with pytest.raises(BadImage, match="breaks off"):
        decode(data[:-200])


def test_garbage_after_a_jpeg_is_ignored():
    data = encoded(photo(32, 48), "JPEG")
    assert np.array_equal(decode(data + b"\0" * 100 + b"trailing"), decode(data))


# sizes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_a_single_pixel(kind):
    picture = Picture(encoded(np.full((1, 1, 3), 90, np.uint8), kind))
    picture.decode(3)
    picture.resize(5, 4, antialias=True)
    found = picture.pixels()
    assert found.shape == (5, 4, 3)
    assert abs(found.astype(int) - 90).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(20_000, 3), (3, 20_000)])
@pytest.mark.parametrize("antialias", [False, True])
def test_20_000_pixels_on_a_side(kind, size, antialias):
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8).reshape(size[0] if size[1] == 3 else 1, -1)
    image = np.broadcast_to(ramp[..., None], (*size, 3))
    picture = Picture(encoded(np.ascontiguousarray(image), kind))
    picture.decode(3)
    picture.resize(8, 8, antialias)
    found = picture.pixels()[..., 0].astype(float)
    expected = (np.arange(8) + 0.5) / 8 * 255
    # At the ends the triangle filter is cut in half, which moves its centre by a twelfth of a step of 32 levels.
    assert abs(found - (expected[:, None] if size[1] == 3 else expected)).max() < 4


def test_a_window_of_an_extremely_enlarged_picture_needs_little_memory():
    # 20,000 x 10 pixels, shorter side to 256: the whole of it would be 512,000 pixels wide.
    picture = of(np.broadcast_to(np.arange(20_000) % 251, (10, 20_000))[..., None].astype(np.uint8))
    picture.resize(256, 512_000, antialias=True)
    picture.crop(0, 256_000, 8, 26)
    found = picture.pixels()
    assert found.shape == (8, 26, 1)
    assert np.array_equal(found[0, 13::26, 0], [(10_000 % 251)])


# broken files


JPEG = encoded(photo(64, 96), "JPEG")
PNG = encoded(noise(20, 20, 3), "PNG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty or cannot be read"),
        (b"<!DOCTYPE html><html>404</html>", "is no image; it starts with b'<!DOCTYPE ht'"),
        (b"\xff\xd8\xff\xe0 cut short", "is a JPEG with a broken header|breaks off"),
        (JPEG[:-2], "is a JPEG that breaks off"),
        (JPEG[: len(JPEG) // 2], "is a JPEG that breaks off"),
        (JPEG[:100], "is a JPEG that breaks off in its header"),
        (JPEG[:2], "is a JPEG that breaks off in its header"),
        (PNG[: len(PNG) // 2], "is a broken PNG"),
        (PNG[:20], "is a broken PNG"),
        (PNG[:60] + b"x" + PNG[61:], "is a broken PNG"),
        (encoded(noise(20, 20, 3), "WEBP")[:-50], "is a broken image|is no image"),
        (encoded(noise(20, 20, 3), "BMP")[:-50], "is a broken image"),
        (encoded(noise(20, 20, 3), "GIF")[:1100], "is a broken image|is no image"),
    ],
)
def test_broken_files_are_refused_with_a_reason(data, reason):
    with pytest.raises(BadImage, match=reason) as error:
        decode(data)
    assert "\n" not in str(error.value)


def test_a_jpeg_without_its_end_is_bad_whatever_is_wanted_of_it():
    # libjpeg would not notice while it decodes the upper half.
    picture = Picture(JPEG[:-20])
    with pytest.raises(BadImage, match="breaks off"):
        picture.decode(3)


# changes


@pytest.mark.parametrize("size", [(8, 12), (40, 50), (23, 40), (10, 90)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_with_antialiasing_equals_tensorflow(size, channels):
    image = noise(23, 31, channels)
    picture = of(image)
    picture.resize(*size, antialias=True)
    reference = tf.image.resize(image.astype(np.float32), size, antialias=True).numpy()
    assert abs(picture.pixels() - reference).max() <= 1.01


@pytest.mark.parametrize("size", [(8, 12), (40, 50), (23, 40), (224, 224)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_without_antialiasing_equals_tensorflow(size, channels):
    image = noise(23, 31, channels)
    picture = of(image)
    picture.resize(*size, antialias=False)
    reference = tf.image.resize(image.astype(np.float32), size).numpy()
    assert abs(picture.pixels() - reference).max() <= 1.01


@pytest.mark.parametrize("channels", [1, 3])
def test_windows_and_mirrors_are_those_of_the_pixels(channels):
    image = noise(40, 50, channels)
    picture = of(image)
    picture.crop(3, 7, 30, 40)
    picture.mirror()
    picture.crop(2, 5, 20, 21)
    assert (picture.height, picture.width) == (20, 21)
    assert np.array_equal(picture.pixels(), image[3:33, 7:47][:, ::-1][2:22, 5:26])
    picture.mirror()
    assert np.array_equal(picture.pixels(), image[3:33, 7:47][:, ::-1][2:22, 5:26][:, ::-1])


def test_what_lies_outside_is_black():
    image = noise(6, 8, 3)
    picture = of(image)
    picture.mirror()
    picture.crop(-2, -3, 12, 7)
    expected = np.pad(image[:, ::-1], ((2, 4), (3, 0), (0, 0)))[:, :7]
    assert np.array_equal(picture.pixels(), expected)
    picture.crop(100, 100, 2, 2)
    assert not picture.pixels().any()


def test_a_filter_does_not_look_outside_of_a_window_that_came_before_it():
    image = noise(40, 50, 3)
    picture = of(image)
    picture.crop(10, 12, 20, 24)
    picture.resize(7, 9, antialias=True)
    reference = tf.image.resize(image[10:30, 12:36].astype(np.float32), (7, 9), antialias=True).numpy()
    assert abs(picture.pixels() - reference).max() <= 1.01


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [(33, 44), (17, 90), (120, 130), (60, 20)])
@pytest.mark.parametrize("kind", [None, "JPEG"])
def test_a_window_of_a_resized_picture_is_part_of_the_whole(antialias, mirrored, size, kind):
    image = photo(60, 80)
    data = encoded(image, "JPEG") if kind else image

    def resized():
        picture = Picture(data)
        if kind:
            picture.decode(3)
        picture.resize(*size, antialias)
        if mirrored:
            picture.mirror()
        return picture

    whole = resized().pixels().astype(int)
    part = resized()
    part.crop(5, 7, 11, 13)
    part.crop(1, 2, 9, 8)
    assert abs(part.pixels() - whole[6:15, 9:17]).max() <= 1


def test_changes_after_a_resize_follow_each_other():
    image = photo(60, 80)
    picture = of(image)
    picture.mirror()
    picture.resize(30, 40, antialias=False)
    picture.crop(2, 3, 20, 30)
    picture.resize(10, 12, antialias=True)
    once = tf.cast(tf.round(tf.image.resize(image[:, ::-1].astype(np.float32), (30, 40))), tf.float32)
    twice = tf.image.resize(once[2:22, 3:33], (10, 12), antialias=True).numpy()
    assert abs(picture.pixels() - twice).max() <= 2


def test_write_fills_the_given_array_and_nothing_else():
    image = noise(20, 30, 3)
    batch = np.full((3, 10, 15, 3), 99, np.uint8)
    for changes in ("crop", "resize", "antialias"):
        for mirrored in (False, True):
            picture = of(image)
            if changes == "crop":
                picture.crop(1, 2, 10, 15)
            else:
                picture.resize(10, 15, changes == "antialias")
            if mirrored:
                picture.mirror()
            expected = picture.pixels()
            batch[1] = 0
            picture.write(batch[1])
            assert np.array_equal(batch[1], expected)
            assert (batch[[0, 2]] == 99).all()


@pytest.mark.parametrize("change", ["crop", "resize", "mirror", "pixels"])
def test_nothing_happens_to_bytes_that_are_not_decoded(change):
    arguments = {"crop": (0, 0, 1, 1), "resize": (1, 1, False)}.get(change, ())
    with pytest.raises(ValueError, match="needs a picture, not bytes"):
        getattr(Picture(JPEG), change)(*arguments)


def test_decoding_twice_is_refused():
    picture = Picture(JPEG)
    picture.decode(3)
    picture.mirror()
    picture.resize(5, 5, antialias=False)
    picture.crop(0, 0, 2, 2)
    with pytest.raises(ValueError, match="decoded already"):
        picture.decode(3)


# only what is needed


def test_only_the_window_of_a_jpeg_is_decoded(monkeypatch):
    asked = []
    real = libjpeg.decode_window
    monkeypatch.setattr(libjpeg, "decode_window", lambda *a: asked.append(a[1:]) or real(*a))
    picture = Picture(encoded(photo(200, 300), "JPEG"))
    picture.decode(3)
    assert asked == []
    picture.crop(50, 60, 70, 80)
    picture.resize(16, 16, antialias=False)
    picture.pixels()
    assert asked == [((200, 300), (50, 60, 70, 80), 3, 1)]


@pytest.mark.parametrize(
    ("window", "scale"), [((0, 0, 400, 600), 8), ((0, 0, 255, 255), 4), ((3, 5, 100, 300), 2), ((0, 0, 60, 600), 1)]
)
@pytest.mark.parametrize("antialias", [False, True])
def test_fast_decodes_at_a_smaller_scale_only_what_shrinks_enough(monkeypatch, window, scale, antialias):
    scales = []
    real = libjpeg.decode_window
    monkeypatch.setattr(libjpeg, "decode_window", lambda *a: scales.append(a[4]) or real(*a))
    image = photo(400, 600, detail=100)
    data = encoded(image, "JPEG", quality=95)
    found = []
    for fast in (False, True):
        picture = Picture(data)
        picture.decode(3, fast)
        picture.crop(*window)
        picture.resize(32, 32, antialias)
        found.append(picture.pixels().astype(int))
    assert scales == [1, scale]
    assert abs(found[1] - found[0]).mean() < 4
    assert scale > 1 or np.array_equal(*found)
