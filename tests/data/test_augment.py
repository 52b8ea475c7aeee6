"""Each change against Pillow, each random operation against its published table and its distribution."""

import colorsys
import inspect
import math
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter
from scipy.stats import chisquare

from vit_jax.data import augment
from vit_jax.data.ops import OPS, Context

pytestmark = pytest.mark.needs_tf

OPERATIONS = (
    "autoaugment",
    "color_jitter",
    "gaussian_blur",
    "grayscale",
    "random_erasing",
    "randaugment",
    "solarize",
    "three_augment",
    "trivial_augment",
)
GRAY = augment.FILL


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def narrow(height, width, channels=3):
    """A picture of little contrast."""
    return (noise(height, width, channels) // 4 + np.array([50, 90, 120][:channels])).astype(np.uint8)


PICTURES = {
    "colour": noise(31, 47),
    "gray": noise(31, 47, 1),
    "low contrast": narrow(40, 33),
    "low contrast gray": narrow(40, 33, 1),
    "many pixels": noise(150, 160),
    "1x1": noise(1, 1),
    "1x1 gray": noise(1, 1, 1),
    "2x3": noise(2, 3),
    "3x2 gray": noise(3, 2, 1),
    "constant": np.full((9, 12, 3), (7, 200, 255), np.uint8),
    "constant gray": np.full((9, 12, 1), 131, np.uint8),
    "black": np.zeros((5, 5, 3), np.uint8),
}


def pillow(image):
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def array(picture, image):
    return np.asarray(picture).reshape(image.shape)


def seeds(number, first=7):
    return [tf.constant((first, n), tf.int32) for n in range(number)]


def compiled(name, shape, **arguments):
    """The operation as the pipeline runs it: traced once, by seed."""

    def run(image, seed):
        return OPS[name](image, Context(shape[:2], shape[-1], seed), **arguments)

    return tf.function(run, autograph=False).get_concrete_function(
        tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((2,), tf.int32)
    )


# Single changes.

POINTWISE = {
    "inverted": (augment.inverted, ImageOps.invert),
    "autocontrasted": (augment.autocontrasted, ImageOps.autocontrast),
    "equalized": (augment.equalized, ImageOps.equalize),
    **{
        f"solarized {t}": (lambda x, t=t: augment.solarized(x, t), lambda x, t=t: ImageOps.solarize(x, t))
        for t in (0.0, 1.0, 100.5, 128.0, 254.2, 255.0, 256.0, 384.0)
    },
    **{
        f"posterized {b}": (lambda x, b=b: augment.posterized(x, b), lambda x, b=b: ImageOps.posterize(x, b))
        for b in (1, 3, 8)
    },
    "grayed": (
        augment.grayed,
        lambda x: Image.merge(x.mode, [x.convert("L")] * 3) if x.mode == "RGB" else x,
    ),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_changes_equal_pillow_exactly(name, picture):
    change, reference = POINTWISE[name]
    image = PICTURES[picture]
    found = change(tf.constant(image))
    assert found.dtype == tf.uint8
    assert np.array_equal(found, array(reference(pillow(image)), image))


ENHANCE = {
    "brightened": ImageEnhance.Brightness,
    "contrasted": ImageEnhance.Contrast,
    "saturated": ImageEnhance.Color,
    "sharpened": ImageEnhance.Sharpness,
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", ENHANCE)
def test_enhancements_equal_pillow_within_one(name, picture):
    """Both round down after float32 arithmetic, in which a different order of operations may miss a whole number."""
    image = PICTURES[picture]
    for factor in (0.0, 0.1, 0.55, 1.0, 1.9, 3.7):
        found = getattr(augment, name)(tf.constant(image), factor).numpy()
        reference = array(ENHANCE[name](pillow(image)).enhance(factor), image)
        assert abs(found.astype(int) - reference).max() <= 1
        assert (found != reference).mean() <= 0.01


def affine(image, a, b, c, d, e, f):
    """Pillow's nearest-pixel transform; it names pixels by their centres, half a pixel further."""
    shifted = (a, b, c + 0.5 * (1 - a - b), d, e, f + 0.5 * (1 - d - e))
    fill = GRAY if image.shape[-1] == 1 else (GRAY,) * 3
    picture = pillow(image)
    return array(picture.transform(picture.size, Image.Transform.AFFINE, shifted, fillcolor=fill), image)


def assert_moved_alike(found, reference):
    """Pillow rounds places to 1/65536 of a pixel, so that a few lie on the other side of a border between two."""
    assert (np.asarray(found) != reference).any(axis=-1).mean() <= 0.005


@pytest.mark.parametrize("picture", PICTURES)
def test_moves_equal_pillow(picture):
    image = PICTURES[picture]
    given = tf.constant(image)
    # No slope that puts many pixels exactly on a border: there the two round differently.
    for slope in (-0.99, -0.31, 0.123, 0.457):
        assert_moved_alike(augment.sheared_x(given, slope), affine(image, 1, slope, 0, 0, 1, 0))
        assert_moved_alike(augment.sheared_y(given, slope), affine(image, 1, 0, 0, slope, 1, 0))
    for pixels in (-100.0, -3.0, 0.0, 1.0, 12.3):
        assert_moved_alike(augment.translated(given, right=pixels), affine(image, 1, 0, -pixels, 0, 1, 0))
        assert_moved_alike(augment.translated(given, down=pixels), affine(image, 1, 0, 0, 0, 1, -pixels))


@pytest.mark.parametrize("picture", sorted(set(PICTURES) - {"2x3", "3x2 gray"}))
def test_rotations_equal_pillow(picture):
    """Of pictures of so few pixels one on a border is too many; they have a test of their own."""
    image = PICTURES[picture]
    fill = GRAY if image.shape[-1] == 1 else (GRAY,) * 3
    for degrees in (-90.3, -30.0, 17.5, 61.0, 134.9):
        reference = array(pillow(image).rotate(degrees, fillcolor=fill), image)
        assert_moved_alike(augment.rotated(tf.constant(image), degrees), reference)


@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 2, 1), (1, 1, 3)])
def test_tiny_pictures_turn_by_nothing_and_by_half(shape):
    image = noise(*shape)
    assert np.array_equal(augment.rotated(tf.constant(image), 0.0), image)
    assert np.array_equal(augment.rotated(tf.constant(image), 180.0), image[::-1, ::-1])


def test_a_square_turns_counter_clockwise():
    image = noise(8, 8)
    assert np.array_equal(augment.rotated(tf.constant(image), 90.0), np.rot90(image))


def test_solarize_add_brightens_the_dark_half():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    for addition in (0, 60, 110, 200, 330):
        wanted = [min(v + addition, 255) if v < 128 else v for v in range(256)]
        assert augment.solarize_added(tf.constant(image), addition).numpy().ravel().tolist() == wanted


def test_hue_turns_as_in_hsv():
    image = noise(12, 11)
    for shift in (-0.5, -0.07, 0.0, 0.31):
        wanted = [
            [255 * v for v in colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)]
            for h, s, v in (colorsys.rgb_to_hsv(*pixel / 255) for pixel in image.reshape(-1, 3))
        ]
        found = augment.hue_shifted(tf.constant(image), shift).numpy().reshape(-1, 3)
        assert abs(found - np.array(wanted)).max() <= 1
    gray = noise(4, 5, 1)
    assert np.array_equal(augment.hue_shifted(tf.constant(gray), 0.3), gray)


@pytest.mark.parametrize("picture", PICTURES)
def test_blur_is_a_gaussian_with_repeated_edges(picture):
    image = PICTURES[picture]
    for sigma in (0.1, 0.7, 2.0):
        found = augment.blurred(tf.constant(image), sigma, 8).numpy().astype(float)
        wanted = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest", radius=8)
        assert abs(found - wanted).max() <= 0.51


def test_blur_is_near_pillow():
    """Pillow's is three box filters with edges of their own: near on smooth pictures, and one level off on average."""
    image = gaussian_filter(noise(40, 50).astype(float), (1.5, 1.5, 0)).astype(np.uint8)
    image = np.asarray(ImageOps.autocontrast(pillow(image)))
    for sigma in (0.1, 0.6, 1.0, 2.0):
        found = augment.blurred(tf.constant(image), sigma, 8).numpy().astype(int)
        wanted = np.asarray(pillow(image).filter(ImageFilter.GaussianBlur(sigma)))
        assert abs(found - wanted).mean() <= 1
        assert np.quantile(abs(found - wanted), 0.99) <= 8


@pytest.mark.parametrize("shape", [(20, 30, 3), (15, 9, 1), (1, 1, 3)])
def test_cutout_is_a_gray_square_about_any_pixel(shape):
    image = np.zeros(shape, np.uint8)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    squares = {
        ((abs(rows - y + 0.5) < 3) & (abs(columns - x + 0.5) < 3)).tobytes()
        for y in range(shape[0])
        for x in range(shape[1])
    }
    found = set()
    for seed in seeds(150):
        cut = augment.cut_out(tf.constant(image), 3, Context(shape[:2], shape[-1], seed)).numpy()
        assert set(np.unique(cut)) <= {0, GRAY}
        found.add((cut == GRAY).all(axis=-1).tobytes())
    assert found <= squares
    assert len(found) > 0.2 * len(squares)


# Policies: which changes they call, how strongly and how often.

PLAIN = ("autocontrasted", "equalized", "inverted", "grayed")
WHOLE = ("posterized", "solarize_added", "cut_out")
SIGNED = ("rotated", "sheared_x", "sheared_y", "translated right", "translated down")
FACTORS = ("saturated", "contrasted", "brightened", "sharpened")
RANDAUGMENT = (*PLAIN[:3], *WHOLE, *SIGNED, *FACTORS, "solarized")
CHANGES = (*RANDAUGMENT, "grayed", "blurred", "hue_shifted")


@pytest.fixture
def calls(monkeypatch):
    """(operation, image, seed, arguments) -> the changes it makes, each with its amount, instead of making them."""
    log = []

    def recorder(name):
        def record(image, *amounts, **named):
            for key, value in named.items() or {"": amounts[0] if amounts else 0}.items():
                log.append((f"{name} {key}".strip(), float(value)))
            return image

        return record

    for name in {change.split()[0] for change in CHANGES}:
        monkeypatch.setattr(augment, name, recorder(name))

    def run(operation, image, seed, **arguments):
        log.clear()
        OPS[operation](tf.constant(image), Context(image.shape[:2], image.shape[-1], seed), **arguments)
        return list(log)

    return run


def assert_even(drawn, categories):
    """Counts could be of uniform draws: chi-square at 0.1 %, and seeds are fixed."""
    assert set(drawn) <= set(categories)
    assert chisquare([drawn.count(category) for category in categories]).pvalue > 0.001


def assert_follows(found, amounts):
    """Each recorded change is in the table {name: (amounts)}, and each amount of the table was found."""
    for name, wanted in amounts.items():
        seen = sorted({round(amount, 4) for other, amount in found if other == name})
        np.testing.assert_allclose(seen, sorted(set(wanted)), atol=2e-4, err_msg=name)
    assert {name for name, _ in found} == set(amounts)


def both(amount):
    return (-amount, amount)


@pytest.mark.parametrize("magnitude", [0, 5, 10, 15.0, 30])
def test_randaugment_has_the_published_changes_and_amounts(calls, magnitude):
    image, m = noise(448, 224), magnitude / 10
    found = [call for seed in seeds(100) for call in calls("randaugment", image, seed, layers=3, magnitude=magnitude)]
    assert len(found) == 300
    factor = (0.1 + 1.8 * m,)
    signed = {"rotated": 30, "sheared_x": 0.3, "sheared_y": 0.3, "translated right": 100, "translated down": 200}
    assert_follows(
        [(name, abs(amount) if name in SIGNED else amount) for name, amount in found],
        {
            **{name: (amount * m,) for name, amount in signed.items()},
            **dict.fromkeys(("autocontrasted", "equalized", "inverted"), (0,)),
            **dict.fromkeys(FACTORS, factor),
            "posterized": (int(m * 4),),
            "solarized": (int(m * 256),),
            "solarize_added": (int(m * 110),),
            "cut_out": (int(m * 40),),
        },
    )


def test_randaugment_draws_evenly_and_each_layer_anew(calls):
    runs = [calls("randaugment", noise(8, 8), seed) for seed in seeds(640)]
    layers = [[name for name, _ in layer] for layer in zip(*runs, strict=True)]
    for layer in layers:
        assert_even(layer, RANDAUGMENT)
    same = [first == second for first, second in zip(*layers, strict=True)]
    assert chisquare([sum(same), len(same) - sum(same)], [640 / 16, 640 * 15 / 16]).pvalue > 0.001
    assert_even([amount > 0 for run in runs for name, amount in run if name in SIGNED], [False, True])


def test_trivial_augment_draws_change_strength_and_direction_evenly(calls):
    runs = [calls("trivial_augment", noise(8, 8), seed) for seed in seeds(1200)]
    assert max(len(run) for run in runs) == 1
    names = sorted(set(RANDAUGMENT) - {"inverted", "solarize_added", "cut_out"})
    assert_even([run[0][0] if run else "identity" for run in runs], [*names, "identity"])
    largest = {"rotated": 135, **dict.fromkeys(("sheared_x", "sheared_y", *FACTORS), 0.99)}
    strengths, directions = [], []
    for name, amount in [call for run in runs for call in run]:
        if name in largest:
            away = (amount - (name in FACTORS)) / largest[name]
            strengths.append(round(abs(away) * 30, 2))
            directions += [away > 0] if abs(away) > 1e-6 else []
        elif name == "posterized":
            assert amount in range(2, 9)
        elif name == "solarized":
            assert (255 - amount) / 255 * 30 == pytest.approx(round((255 - amount) / 255 * 30), abs=1e-3)
        else:
            assert abs(amount) in {round(32 * k / 30) for k in range(31)}
    assert_even(strengths, range(31))
    assert_even(directions, [False, True])


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_autoaugment_follows_its_policy(calls, policy):
    """Every change comes as often as the pairs of the policy together say, with the amounts of their levels."""
    image, runs = noise(331, 662), 500
    found = [call for seed in seeds(runs) for call in calls("autoaugment", image, seed, policy=policy)]
    frequency, levels = {}, {}
    for name, probability, level in [change for pair in augment.POLICIES[policy] for change in pair]:
        frequency[name] = frequency.get(name, 0) + probability / 25
        levels.setdefault(name, set()).update([level] if probability else [])
    names = {
        "shear_x": "sheared_x",
        "shear_y": "sheared_y",
        "translate_x": "translated right",
        "translate_y": "translated down",
        "rotate": "rotated",
        "brightness": "brightened",
        "color": "saturated",
        "contrast": "contrasted",
        "sharpness": "sharpened",
        "posterize": "posterized",
        "solarize": "solarized",
        "autocontrast": "autocontrasted",
        "equalize": "equalized",
        "invert": "inverted",
    }
    amounts = {
        **dict.fromkeys(("shear_x", "shear_y"), lambda k: both(0.3 * k / 9)),
        "translate_x": lambda k: both(round(300 * k / 9)),
        "translate_y": lambda k: both(round(150 * k / 9)),
        "rotate": lambda k: both(30 * k / 9),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), lambda k: (1 - 0.1 * k, 1 + 0.1 * k)),
        "posterize": lambda k: (8 - round(4 * k / 9),),
        "solarize": lambda k: (255 * (1 - k / 9),),
        **dict.fromkeys(("autocontrast", "equalize", "invert"), lambda k: (0,)),
    }
    for name, share in frequency.items():
        drawn = [amount for other, amount in found if other == names[name]]
        assert len(drawn) == pytest.approx(runs * share, abs=4 * math.sqrt(runs * share) + 1)
        wanted = np.array(sorted({round(a, 4) for k in levels[name] for a in amounts[name](k)}))
        assert all(abs(wanted - amount).min() < 2e-4 for amount in drawn)
    assert {name for name, _ in found} <= {names[name] for name in frequency}


@pytest.mark.parametrize(
    ("policy", "checksum"), [("imagenet", 3284646093), ("cifar10", 4116419470), ("svhn", 3091818410)]
)
def test_policies_are_those_of_the_paper(policy, checksum):
    """Checksums were taken of the tables in torchvision 0.28, written as `name probability level`."""
    pairs = augment.POLICIES[policy]
    assert [len(pair) for pair in pairs] == [2] * 25
    text = " ".join(f"{name} {probability} {level}" for pair in pairs for name, probability, level in pair)
    assert zlib.crc32(text.encode()) == checksum


@pytest.mark.parametrize("operation", ["randaugment", "autoaugment", "trivial_augment"])
def test_traced_operations_make_the_recorded_changes(calls, monkeypatch, operation):
    """What is recorded above, done one after the other, gives the pixels of the traced operation."""
    image = narrow(40, 40)
    recorded = [calls(operation, image, seed) for seed in seeds(40)]
    monkeypatch.undo()
    changes = {name: getattr(augment, name) for name in CHANGES if name in vars(augment)}
    changes["translated right"] = lambda x, pixels: augment.translated(x, right=pixels)
    changes["translated down"] = lambda x, pixels: augment.translated(x, down=pixels)
    run = compiled(operation, image.shape)
    compared = 0
    for made, seed in zip(recorded, seeds(40), strict=True):
        if "cut_out" in dict(made):  # needs its seed, too
            continue
        wanted = tf.constant(image)
        for name, amount in made:
            amounts = () if name in PLAIN else (int(amount) if name in WHOLE else amount,)
            wanted = changes[name](wanted, *amounts)
        assert np.array_equal(run(tf.constant(image), seed), wanted)
        compared += 1
    assert compared >= 25


# Jitter, blur, grayscale, solarize, erasing.


def test_color_jitter_draws_factors_and_order_evenly(calls):
    runs = [
        calls("color_jitter", noise(4, 4), s, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1) for s in seeds(480)
    ]
    spans = {"brightened": (0.6, 1.4), "contrasted": (0, 2.5), "saturated": (0.8, 1.2), "hue_shifted": (-0.1, 0.1)}
    for name, (low, high) in spans.items():
        drawn = [dict(run)[name] for run in runs]
        assert_even([int((amount - low) / (high - low) * 7.999) for amount in drawn], range(8))
    orders = [tuple(name for name, _ in run) for run in runs]
    assert_even(orders, sorted(set(orders)))
    assert len(set(orders)) == 24
    assert [name for name, _ in calls("color_jitter", noise(4, 4), seeds(1)[0], saturation=0.0, contrast=0.0)] == [
        "brightened"
    ]


def test_color_jitter_of_nothing_does_nothing():
    image = noise(6, 7)
    run = compiled("color_jitter", image.shape, brightness=0.0, contrast=0.0, saturation=0.0)
    assert all(np.array_equal(run(tf.constant(image), seed), image) for seed in seeds(5))


def test_three_augment_is_one_of_three_and_jitter(calls):
    runs = [calls("three_augment", noise(4, 4), seed) for seed in seeds(300)]
    assert_even([run[0][0] for run in runs], ["grayed", "solarized", "blurred"])
    assert {run[0][1] for run in runs if run[0][0] == "solarized"} == {128.0}
    assert_even([int((run[0][1] - 0.1) / 1.9 * 5) for run in runs if run[0][0] == "blurred"], range(5))
    jitter = [amount for run in runs for _, amount in run[1:]]
    assert {frozenset(name for name, _ in run[1:]) for run in runs} == {
        frozenset(("brightened", "contrasted", "saturated"))
    }
    assert 0.7 <= min(jitter) < 0.72
    assert 1.28 < max(jitter) <= 1.3


@pytest.mark.parametrize(
    ("operation", "change", "arguments"),
    [("grayscale", "grayed", {}), ("solarize", "solarized", {"threshold": 99}), ("gaussian_blur", "blurred", {})],
)
def test_probabilities_are_kept(calls, operation, change, arguments):
    for probability, low, high in ((0.0, 0, 0), (0.3, 45, 75), (1.0, 200, 200)):
        runs = [calls(operation, noise(4, 4), seed, probability=probability, **arguments) for seed in seeds(200)]
        assert {name for run in runs for name, _ in run} <= {change}
        assert low <= sum(map(len, runs)) <= high
    assert operation != "solarize" or runs[0][0][1] == 99


@pytest.mark.parametrize("fill", ["noise", "gray"])
@pytest.mark.parametrize("channels", [1, 3])
def test_random_erasing_replaces_one_box_of_the_right_area(fill, channels):
    height, width = 60, 80
    image = np.zeros((height, width, channels), np.uint8)
    limits = {"area_min": 0.05, "area_max": 0.4, "aspect_min": 0.5}
    run = compiled("random_erasing", image.shape, probability=1.0, fill=fill, **limits)
    areas, aspects, corners, values = [], [], set(), []
    for seed in seeds(200):
        found = run(tf.constant(image), seed).numpy()
        rows, columns = (np.flatnonzero(found.any(axis=-1).any(axis=axis)) for axis in (1, 0))
        box = found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        areas.append(box.shape[0] * box.shape[1] / (height * width))
        aspects.append(math.log(box.shape[0] / box.shape[1]))
        corners |= {(rows[0] == 0, columns[0] == 0), (rows[-1] == height - 1, columns[-1] == width - 1)}
        values.append(box.ravel())
        assert fill == "noise" or (box == GRAY).all()
    assert 0.045 <= min(areas) < 0.08
    assert 0.33 < max(areas) <= 0.41
    assert abs(np.array(aspects)).max() < math.log(2.15)
    assert min(aspects) < -0.5 < 0.5 < max(aspects)
    assert len(corners) > 1
    if fill == "noise":
        assert chisquare(np.bincount(np.concatenate(values), minlength=256)).pvalue > 0.001


def test_random_erasing_is_as_frequent_as_asked_and_leaves_alone_what_fits_nowhere():
    image = noise(32, 32)
    run = compiled("random_erasing", image.shape)
    erased = [not np.array_equal(run(tf.constant(image), seed), image) for seed in seeds(200)]
    assert 30 <= sum(erased) <= 70
    line = noise(1, 400)  # no box of half its area and a moderate shape
    run = compiled("random_erasing", line.shape, probability=1.0, area_min=0.5, area_max=0.6)
    assert all(np.array_equal(run(tf.constant(line), seed), line) for seed in seeds(20))


# All operations.


def test_all_operations_are_registered():
    registered = {name for name, function in OPS.items() if function.__module__ == augment.__name__}
    assert registered == set(OPERATIONS)
    for name in OPERATIONS:
        assert inspect.getdoc(OPS[name])


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_functions_of_the_seed_alone(name):
    image = noise(17, 19)
    run, other = compiled(name, image.shape), compiled(name, image.shape)
    first = [run(tf.constant(image), seed).numpy().tobytes() for seed in seeds(25)]
    assert first == [other(tf.constant(image), seed).numpy().tobytes() for seed in seeds(25)]
    assert len(set(first)) > (1 if name in ("grayscale", "solarize") else 4)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_shape_and_type_of_any_picture(name):
    """Traced for unknown sides, as behind `decode`."""
    for channels in (1, 3):

        def run(image, seed, channels=channels):
            return OPS[name](image, Context((8, 8), channels, seed))

        traced = tf.function(run, autograph=False).get_concrete_function(
            tf.TensorSpec((None, None, channels), tf.uint8), tf.TensorSpec((2,), tf.int32)
        )
        assert traced.structured_outputs.shape.as_list() == [None, None, channels]
        for shape in ((1, 1), (2, 3), (13, 40)):
            for seed in seeds(8):
                found = traced(tf.constant(noise(*shape, channels)), seed)
                assert found.dtype == tf.uint8
                assert tuple(found.shape) == (*shape, channels)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gray_pictures_stay_gray(name):
    """Three equal channels stay equal: noise is the one thing that has a colour of its own."""
    image = np.repeat(noise(12, 14, 1), 3, axis=-1)
    run = compiled(name, image.shape, **({"fill": "gray"} if name == "random_erasing" else {}))
    for seed in seeds(30):
        found = run(tf.constant(image), seed).numpy()
        assert (found == found[..., :1]).all()


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("randaugment", {"layers": 0}, "1 <= layers <= 10"),
        ("randaugment", {"magnitude": 31.0}, "magnitude <= 30"),
        ("randaugment", {"magnitude": -1.0}, "0 <= magnitude"),
        ("autoaugment", {"policy": "mnist"}, "policy = 'mnist' must be one of imagenet, cifar10, svhn"),
        ("color_jitter", {"hue": 0.6}, "hue of at most 0.5"),
        ("color_jitter", {"contrast": -0.1}, "at least 0"),
        ("three_augment", {"jitter": -1.0}, "at least 0"),
        ("gaussian_blur", {"probability": 1.2}, "probability = 1.2 must be between 0 and 1"),
        ("gaussian_blur", {"sigma_min": 0.0}, "0 < sigma_min"),
        ("gaussian_blur", {"sigma_min": 3.0}, "sigma_min <= sigma_max"),
        ("grayscale", {"probability": -0.1}, "probability = -0.1"),
        ("solarize", {"threshold": 300}, "threshold = 300 must be between 0 and 256"),
        ("random_erasing", {"fill": "black"}, "fill = 'black' must be noise or gray"),
        ("random_erasing", {"area_min": 0.5}, "area_min <= area_max"),
        ("random_erasing", {"aspect_min": 2.0}, "aspect_min <= 1"),
    ],
)
def test_arguments_out_of_range_are_refused_when_traced(name, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        compiled(name, (8, 8, 3), **arguments)
