"""Host operations on pictures and batches: what they do, and that they depend on the seed alone."""

import numpy as np
import pytest
import tensorflow as tf

from vit_jax.data.ops import HOST_OPS, OPS, HostContext
from vit_jax.data.picture import BadImage, Picture
from vit_jax.data.preprocess import HostStage, compile_steps, parse

pytestmark = pytest.mark.needs_tf

RANDOM = ("random_crop", "inception_crop", "flip")
SIZED = ("resize", "central_crop", "random_crop", "inception_crop")


def seeds(number, first=7):
    return np.stack([np.full(number, first), np.arange(number)], axis=-1).astype(np.int32)


def stage(text, size=(8, 8), channels=3):
    return HostStage(tuple(enumerate(parse(text, "field"))), size, channels)


def pictures(text, image, number=1, size=(8, 8)):
    """The operations on the same pixels with `number` seeds, before anything is drawn."""
    steps = stage(text, size, image.shape[-1])
    draws = steps.draws(seeds(number))
    return [steps.one(image, [numbers[row] for numbers in draws]) for row in range(number)]


def apply(text, image, number=1, size=(8, 8)):
    return [picture.pixels() for picture in pictures(text, image, number, size)]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def coordinates(height, width):
    """An image whose pixels say where they are, and that they are not padding."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 255)], axis=-1).astype(np.uint8)


# sizes


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_and_resizes_give_uint8_of_the_image_size(name, channels):
    (found,) = apply(name, noise(23, 31, channels), size=(8, 12))
    assert (found.dtype, found.shape) == (np.uint8, (8, 12, channels))


def test_these_are_all_host_operations():
    names = {name for name, function in OPS.items() if function in HOST_OPS}
    assert names == {*SIZED, *RANDOM, "decode", "resize_small"}


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
    (found,) = apply(f"resize_small({ratio})", noise(height, width, 3), size=size)
    assert found.shape == (*expected, 3)


@pytest.mark.parametrize(("ratio", "expected"), [(1, (8, 12)), (1.25, (10, 15)), (1.143, (9, 14)), (0.1, (1, 1))])
def test_resize_gives_a_multiple_of_the_image_size(ratio, expected):
    (found,) = apply(f"resize({ratio})", noise(23, 31, 3), size=(8, 12))
    assert found.shape == (*expected, 3)


@pytest.mark.parametrize("name", ["resize", "resize_small"])
def test_a_resize_to_nothing_is_refused(name):
    with pytest.raises(ValueError, match="ratio is too small"):
        apply(f"{name}(0.01)", noise(23, 31, 3))


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (224, 224), (100, 120)])
def test_the_evaluation_string_equals_tensorflow(size):
    image = noise(*size, 3)
    (found,) = apply("resize_small|central_crop", image, size=(224, 224))
    sides = [round(side * 256 / min(size)) for side in size]
    resized = tf.image.resize(image.astype(np.float32), sides, antialias=True)
    reference = tf.image.resize_with_crop_or_pad(resized, 224, 224).numpy()
    assert abs(found - reference).max() <= 1.5
    assert np.sqrt(np.mean((found - reference) ** 2)) < 0.5


@pytest.mark.parametrize("size", [(20, 31), (21, 30), (8, 10), (40, 11)])
def test_central_crop_is_that_of_tensorflow(size):
    image = coordinates(*size)
    (found,) = apply("central_crop", image, size=(8, 10))
    assert np.array_equal(found, tf.image.resize_with_crop_or_pad(image, 8, 10))


@pytest.mark.parametrize("size", [(4, 20), (5, 5), (9, 3)])
def test_central_crop_pads_small_images_with_black(size):
    image = noise(*size, 3)
    (found,) = apply("central_crop", image)
    assert np.array_equal(found, tf.image.resize_with_crop_or_pad(image, 8, 8))


# random_crop


def test_random_crop_takes_windows_from_everywhere_in_the_padded_image():
    padded = np.pad(coordinates(9, 10), ((1, 1), (1, 1), (0, 0)))
    windows = {padded[y : y + 8, x : x + 8].tobytes(): (y, x) for y in range(4) for x in range(5)}
    found = {windows[crop.tobytes()] for crop in apply("random_crop(1)", coordinates(9, 10), 200)}
    assert found == set(windows.values())


def test_random_crop_of_an_image_that_is_too_small_is_a_bad_image():
    with pytest.raises(BadImage, match=r"is 7x9, too small for random_crop\(0\) of 8x8"):
        apply("random_crop", noise(7, 9, 3))


# inception_crop


def inception_windows(height, width, number, **arguments):
    """The windows (top, left, height, width) that `inception_crop` takes."""
    found = []

    class Recorder(Picture):
        def crop(self, *window):
            found.append(window)

        def resize(self, *_, **__):
            pass

    steps = stage("inception_crop")
    for numbers in steps.draws(seeds(number))[0]:
        picture = Recorder(np.broadcast_to(np.uint8(0), (height, width, 3)))
        OPS["inception_crop"](picture, HostContext((8, 8), 3, numbers), **arguments)
    return np.array(found)


@pytest.mark.parametrize(("area_min", "area_max", "aspect"), [(0.05, 1.0, 4 / 3), (0.3, 0.5, 1.0), (0.5, 0.6, 2.0)])
def test_inception_crop_keeps_to_its_bounds_and_uses_them(area_min, area_max, aspect):
    found = inception_windows(100, 120, 400, area_min=area_min, area_max=area_max, aspect=aspect)
    assert len(found) == 400
    top, left, height, width = found.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 100).all()
    assert (left + width <= 120).all()
    areas, shapes, slack = height * width / 12_000, width / height, 0.5 / height  # sides are whole pixels
    assert (shapes >= 1 / aspect - slack).all()
    assert (shapes <= aspect + slack).all()
    reach = area_max - area_min
    assert area_min - 0.01 <= areas.min() < area_min + 0.2 * reach
    assert area_max + 0.01 >= areas.max() > area_max - 0.3 * reach
    assert aspect == 1 or (shapes.min() < 1 < shapes.max())


def test_inception_crops_are_distributed_as_those_of_tensorflow():
    # Kolmogorov-Smirnov, at a level that one honest run in a million would miss.
    from scipy.stats import ks_2samp

    number = 3000
    ours = inception_windows(375, 500, number)

    @tf.function
    def sample(seed):
        start, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            (375, 500, 3),
            tf.zeros((0, 0, 4), tf.float32),
            seed,
            area_range=(0.05, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            min_object_covered=0.0,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([start[:2], size[:2]], axis=0)

    theirs = tf.map_fn(sample, tf.constant(seeds(number))).numpy()
    for measure in (
        lambda w: w[:, 2] * w[:, 3],
        lambda w: w[:, 3] / w[:, 2],
        lambda w: w[:, 0] + w[:, 2] / 2,
        lambda w: w[:, 1] + w[:, 3] / 2,
    ):
        assert ks_2samp(measure(ours), measure(theirs)).pvalue > 1e-6


def test_inception_crop_of_everything_is_a_plain_resize():
    image = noise(16, 16, 3)
    (found,) = apply("inception_crop(area_min=1.0, aspect=1.0)", image, size=(16, 16))
    assert np.array_equal(found, image)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (10, 20_000), (20_000, 10)])
def test_inception_crop_of_odd_images(size):
    found = apply("inception_crop", np.full((*size, 1), 50, np.uint8), 5)
    assert np.array_equal(found, np.full((5, 8, 8, 1), 50))


def test_inception_crop_of_an_image_too_long_for_its_windows_takes_all_of_it():
    image = np.zeros((2, 400, 1), np.uint8)
    image[:, ::2] = 200
    image[:, 200:] = 255
    found = apply("inception_crop", image, 3)
    expected = tf.image.resize(image.astype(np.float32), (8, 8)).numpy()
    assert abs(np.array(found) - expected).max() <= 1.01


# randomness


@pytest.mark.parametrize("name", RANDOM)
def test_random_operations_are_functions_of_the_seed_alone(name):
    image = noise(12, 14, 3)
    first, again = ([crop.tobytes() for crop in apply(name, image, 20)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 1


def test_flip_mirrors_half_of_the_time_and_does_nothing_else():
    image = noise(5, 6, 3)
    found = apply("flip", image, 400)
    mirrored = sum(np.array_equal(f, image[:, ::-1]) for f in found)
    untouched = sum(np.array_equal(f, image) for f in found)
    assert mirrored + untouched == 400
    assert 150 <= mirrored <= 250


def test_draws_are_uniform_and_independent():
    from scipy.stats import kstest

    steps = stage("inception_crop|random_crop|flip|flip")
    draws = [np.array(numbers) for numbers in steps.draws(seeds(2000))]
    columns = np.concatenate(draws, axis=1)
    assert columns.shape == (2000, 13 + 2 + 1 + 1)
    assert (columns >= 0).all()
    assert (columns < 1).all()
    assert min(kstest(column, "uniform").pvalue for column in columns.T) > 1e-6
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert abs(correlation).max() < 0.12  # of 2,000 independent pairs: 5 standard deviations


def test_an_example_has_the_same_draws_in_any_batch():
    steps = stage("inception_crop|flip")
    whole = steps.draws(seeds(10))
    parts = [steps.draws(seeds(10)[i : i + 1]) for i in range(10)]
    for number, numbers in enumerate(whole):
        assert numbers == [part[number][0] for part in parts]


# batches


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_batch_is_what_the_single_pictures_are(encode, threads, rows):
    program = compile_steps("decode|inception_crop|flip", "field", (8, 10), 3)
    sources = [encode(noise(20 + row, 30, 3), "JPEG" if row % 2 else "PNG") for row in range(rows)]
    out = np.full((rows, 8, 10, 3), 99, np.uint8)
    found, bad = program.host.batch(sources, seeds(rows), threads, out)
    assert found is out
    assert bad == {}
    for row, source in enumerate(sources):
        assert np.array_equal(out[row], program.image(source, seeds(rows)[row]))


def test_pictures_of_different_sizes_come_as_a_list(encode):
    program = compile_steps("decode|resize_small(2)|randaugment|resize", "field", (8, 8), 3)
    assert program.host_shape == (None, None, 3)
    images, bad = program.host.batch([encode(noise(20, 30, 3)), encode(noise(9, 5, 3))], seeds(2), 2)
    assert [image.shape for image in images] == [(16, 24, 3), (29, 16, 3)]
    assert bad == {}


@pytest.mark.parametrize("fixed", [True, False])
def test_bad_pictures_are_black_and_explained(encode, fixed):
    program = compile_steps("decode|resize", "field", (8, 8), 3)
    sources = [encode(noise(20, 30, 3)), b"", encode(noise(20, 30, 3), "JPEG")[:-5], encode(noise(20, 30, 3))]
    out = np.full((4, 8, 8, 3), 99, np.uint8) if fixed else None
    found, bad = program.host.batch(sources, seeds(4), 2, out)
    assert bad == {1: "is empty or cannot be read", 2: "is a JPEG that breaks off"}
    assert not found[1].any()
    assert not found[2].any()
    assert np.array_equal(found[0], found[3])
    assert found[0].any()
