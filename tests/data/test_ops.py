"""What each pre-processing operation does to an image, against numpy, Pillow and SciPy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from vit_jax.data import ops
from vit_jax.data.ops import OPS, Context

pytestmark = pytest.mark.needs_tf

RANDOM = ("random_crop", "inception_crop", "flip", "random_affine")


def apply(name, image, size=(8, 8), seed=(1, 2), **arguments):
    context = Context(size, image.shape[-1] if isinstance(image, np.ndarray) else 3, tf.constant(seed, tf.int32))
    return OPS[name](tf.constant(image), context, **arguments).numpy()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def coordinates(height, width):
    """An image whose pixels say where they are, and that they are not padding."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 255)], axis=-1).astype(np.uint8)


# decode


def decode(data, channels=3):
    return OPS["decode"](tf.constant(data), Context((8, 8), channels, tf.constant((0, 0)))).numpy()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_decode_gives_back_what_a_lossless_encoder_got(encode, kind):
    image = noise(7, 5, 3)
    assert np.array_equal(decode(encode(image, kind)), image)


def test_decode_of_jpeg_is_near_the_image(encode):
    image = np.tile(np.linspace(30, 200, 32, dtype=np.uint8)[:, None, None], (1, 32, 3))
    assert abs(decode(encode(image, "JPEG")).astype(int) - image).max() <= 4


def test_decode_takes_the_first_frame_of_an_animation():
    import io

    from PIL import Image

    frames = [Image.fromarray(np.full((6, 6, 3), level, np.uint8)) for level in (40, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(file.getvalue()), np.full((6, 6, 3), 40))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
def test_grey_images_become_three_equal_channels_or_stay_as_they_are(encode, kind):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode(encode(image, kind)), np.repeat(image[..., None], 3, axis=-1))
    assert np.array_equal(decode(encode(image, kind), channels=1), image[..., None])


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_one_channel_of_a_colour_image_is_its_luma(encode, kind):
    from PIL import Image

    image = noise(9, 9, 3)
    found = decode(encode(image, kind), channels=1)
    assert found.shape == (9, 9, 1)
    assert abs(found[..., 0].astype(int) - np.array(Image.fromarray(image).convert("L"))).max() <= 1


# sizes


@pytest.mark.parametrize("name", sorted(set(OPS) - {"decode", "resize_small", "flip", "random_affine"}))
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_and_resizes_give_uint8_of_the_image_size(name, channels):
    found = apply(name, noise(23, 31, channels), size=(8, 12))
    assert found.dtype == np.uint8
    assert found.shape == (8, 12, channels)


@pytest.mark.parametrize("name", ["flip", "random_affine"])
def test_flip_and_affine_keep_type_and_shape(name):
    found = apply(name, noise(23, 31, 3))
    assert found.dtype == np.uint8
    assert found.shape == (23, 31, 3)


@pytest.mark.parametrize("size", [(8, 12), (40, 50)])
def test_resize_is_antialiased_bilinear(size):
    from PIL import Image

    image = noise(23, 31, 3)
    reference = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert abs(apply("resize", image, size) - reference).max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "size", "ratio", "expected"),
    [
        (300, 400, (224, 224), 1.143, (256, 341)),
        (400, 300, (224, 224), 1.143, (341, 256)),
        (100, 100, (224, 224), 1.143, (256, 256)),
        (300, 400, (384, 384), 1.143, (439, 585)),
        (10, 30, (8, 16), 1.0, (16, 48)),
        (37, 50, (8, 8), 1, (8, 11)),
    ],
)
def test_resize_small_sets_the_shorter_side_and_keeps_the_aspect(height, width, size, ratio, expected):
    assert apply("resize_small", noise(height, width, 3), size, ratio=ratio).shape == (*expected, 3)


def test_central_crop_is_the_middle():
    image = coordinates(20, 31)
    assert np.array_equal(apply("central_crop", image, (8, 10)), image[6:14, 10:20])


def test_central_crop_pads_small_images_with_black():
    image = noise(4, 20, 3)
    expected = np.pad(image[:, 6:14], ((2, 2), (0, 0), (0, 0)))
    assert np.array_equal(apply("central_crop", image), expected)


def test_random_crop_takes_windows_from_everywhere_in_the_padded_image():
    padded = np.pad(coordinates(9, 10), ((1, 1), (1, 1), (0, 0)))
    windows = {padded[y : y + 8, x : x + 8].tobytes(): (y, x) for y in range(4) for x in range(5)}
    found = {windows[apply("random_crop", coordinates(9, 10), seed=(0, n), pad=1).tobytes()] for n in range(200)}
    assert found == set(windows.values())


# inception_crop


@pytest.mark.parametrize(("area_min", "area_max", "aspect"), [(0.05, 1.0, 4 / 3), (0.3, 0.5, 1.0), (0.5, 0.6, 2.0)])
def test_inception_crop_keeps_to_its_bounds_and_uses_them(monkeypatch, area_min, area_max, aspect):
    image = coordinates(100, 120)
    monkeypatch.setattr(ops, "_resized", lambda window, *_, **__: window)
    areas, shapes = [], []
    for n in range(150):
        window = apply("inception_crop", image, seed=(7, n), area_min=area_min, area_max=area_max, aspect=aspect)
        height, width, _ = window.shape
        y, x, _ = window[0, 0]
        assert np.array_equal(window, image[y : y + height, x : x + width])
        slack = 0.5 / height  # sides are whole pixels
        assert 1 / aspect - slack <= width / height <= aspect + slack
        areas.append(height * width / (100 * 120))
        shapes.append(width / height)
    reach = area_max - area_min
    assert area_min - 0.01 <= min(areas) < area_min + 0.2 * reach
    assert area_max + 0.01 >= max(areas) > area_max - 0.3 * reach
    assert aspect == 1 or (min(shapes) < 1 < max(shapes))


def test_inception_crop_of_everything_is_a_plain_resize():
    image = noise(16, 16, 3)
    found = apply("inception_crop", image, (16, 16), area_min=1.0, aspect=1.0)
    assert np.array_equal(found, image)


# randomness


@pytest.mark.parametrize("name", RANDOM)
def test_random_operations_are_functions_of_the_seed_alone(name):
    image = noise(12, 14, 3)
    first, again = ([apply(name, image, seed=(5, n)).tobytes() for n in range(20)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 1


def test_flip_mirrors_half_of_the_time_and_does_nothing_else():
    image = noise(5, 6, 3)
    found = [apply("flip", image, seed=(3, n)) for n in range(100)]
    mirrored = sum(np.array_equal(f, image[:, ::-1]) for f in found)
    untouched = sum(np.array_equal(f, image) for f in found)
    assert mirrored + untouched == 100
    assert 30 <= mirrored <= 70


# random_affine


def moved_by(monkeypatch, image, turn=0.0, down=0.0, right=0.0, zoom=0.0, **amounts):
    """`random_affine` with these draws in place of its random ones."""
    monkeypatch.setattr(ops, "_uniform", lambda *_: tf.constant([turn, down, right, zoom]))
    return apply("random_affine", image, **{"degrees": 0.0, "shift": 0.0, "scale": 0.0, **amounts})


def test_affine_by_nothing_is_the_identity():
    image = noise(11, 14, 3)
    for n in range(5):
        assert np.array_equal(apply("random_affine", image, seed=(0, n), degrees=0.0, shift=0.0, scale=0.0), image)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_affine_by_right_angles_turns_about_the_centre(monkeypatch, side, quarters):
    image = noise(side, side, 3)
    found = moved_by(monkeypatch, image, turn=1.0, degrees=90.0 * quarters)
    assert abs(found.astype(int) - np.rot90(image, quarters)).max() <= 1  # bilinear, at almost whole places


def test_affine_shifts_by_parts_of_the_sides_and_repeats_edges(monkeypatch):
    image = noise(10, 20, 3)
    found = moved_by(monkeypatch, image, down=1.0, right=-0.5, shift=0.2)
    expected = np.pad(image, ((0, 2), (2, 0), (0, 0)), mode="edge")[2:, :20]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(12, 12, 3), (9, 16, 1)])
def test_affine_of_everything_equals_scipy(monkeypatch, shape):
    image = noise(*shape)
    draws = {"turn": 0.7, "down": -0.4, "right": 0.9, "zoom": 0.5}
    found = moved_by(monkeypatch, image, **draws, degrees=30.0, shift=0.1, scale=0.2)

    height, width, channels = shape
    centre, sides = np.array([height - 1, width - 1]) / 2, np.array([height, width])
    angle, zoom = np.deg2rad(0.7 * 30), 1 + 0.5 * 0.2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom  # of (row, column)
    offsets = np.stack(np.mgrid[:height, :width], axis=-1) - centre
    places = offsets @ turn.T + centre + np.array([-0.4, 0.9]) * 0.1 * sides
    for c in range(channels):
        reference = map_coordinates(image[..., c].astype(float), np.moveaxis(places, -1, 0), order=1, mode="nearest")
        assert abs(found[..., c] - reference).max() <= 1.01


def test_affine_stays_within_its_amounts():
    # A single bright pixel in the centre stays put under any turn and zoom, and moves by at most the shift.
    image = np.zeros((21, 21, 1), np.uint8)
    image[9:12, 9:12] = 255
    for n in range(30):
        still = apply("random_affine", image, seed=(1, n), degrees=180.0, shift=0.0, scale=0.3)
        assert still[10, 10, 0] == 255
        shifted = apply("random_affine", image, seed=(1, n), degrees=0.0, shift=0.2, scale=0.0)
        rows, columns = np.nonzero(shifted[..., 0])
        assert max(abs(rows - 10).max(), abs(columns - 10).max()) <= 1 + np.ceil(0.2 * 21)
