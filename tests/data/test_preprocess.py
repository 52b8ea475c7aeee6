"""Pre-processing strings: what they accept, where their errors point, and what they compile to."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.data import DataSettings, check_preprocess
from vit_jax.data.ops import OPS
from vit_jax.data.preprocess import compile_steps, parse
from vit_jax.errors import BadSetting

pytestmark = pytest.mark.needs_tf

FIELD = "config.data.train_preprocess"


def compiled(text, size=(8, 8), channels=3):
    return compile_steps(text, FIELD, size, channels).image


def test_operations_and_arguments_are_read_by_position_and_name():
    found = parse(" decode | inception_crop(0.3, aspect=2) | random_crop(pad=-1) | flip() ", FIELD)
    assert found == [
        (OPS["decode"], {}),
        (OPS["inception_crop"], {"area_min": 0.3, "aspect": 2}),
        (OPS["random_crop"], {"pad": -1}),
        (OPS["flip"], {}),
    ]


@pytest.mark.parametrize(
    ("text", "place", "shown", "reason"),
    [
        ("decode|flop", 8, "flop", 'unknown operation; did you mean "flip"?'),
        ("decode|  flop  |resize", 10, "flop", "unknown operation"),
        ("decode||resize", 8, "", "write name or name(1, key=2)"),
        ("", 1, "", "write name or name(1, key=2)"),
        ("decode|resize(", 8, "resize(", "write name or name(1, key=2)"),
        ("decode|flip(1)|resize", 8, "flip(1)", "it takes no arguments"),
        ("decode|resize_small(big=1)", 8, "resize_small(big=1)", "it takes ratio=1.143"),
        ("decode|resize_small(1, ratio=1)", 8, "resize_small(1, ratio=1)", "multiple values"),
        ("decode|random_crop(2.5)", 8, "random_crop(2.5)", "pad = 2.5 must be int"),
        ("decode|resize_small('1')", 8, "resize_small('1')", "ratio = '1' must be float"),
        ("decode|resize_small(True)", 8, "resize_small(True)", "ratio = True must be float"),
        ("decode|resize_small(2*3)", 8, "resize_small(2*3)", "write name or name(1, key=2)"),
        ("decode|resize_small({[]: 1})", 8, "resize_small({[]: 1})", "write name or name(1, key=2)"),
    ],
)
def test_errors_point_at_the_operation_and_its_character(text, place, shown, reason):
    with pytest.raises(BadSetting) as error:
        parse(text, FIELD)
    message = str(error.value)
    assert message.startswith(f"{FIELD} = {text!r}: at character {place}, {shown!r}: ")
    assert reason in message


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*OPS, "|", "|", "(", ")", "=", ",", ".", "1", "0.5", "pad", " ", "[", "{", "'", "*"])))
def test_any_text_either_parses_or_is_a_bad_setting(words):
    text = "".join(words)
    try:
        steps = parse(text, FIELD)
    except BadSetting:
        return
    assert len(steps) == text.count("|") + 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("resize", "; start with decode"),
        ("flip|decode|resize", "; start with decode"),
        ("decode|decode|resize", "does not fit together"),
        ("decode|random_crop(-2)", "must be non-negative"),
        ("decode|inception_crop(0.5, 0.1)", "needs 0 < area_min <= area_max <= 1 <= aspect"),
        ("decode|inception_crop(0.5, 1.5)", "needs 0 < area_min <= area_max <= 1 <= aspect"),
        ("decode|inception_crop(0)", "needs 0 < area_min <= area_max <= 1 <= aspect"),
        ("decode|inception_crop(aspect=0.5)", "needs 0 < area_min <= area_max <= 1 <= aspect"),
        ("decode|resize_small(0)|central_crop", "ratio is too small"),
        ("decode|resize|random_affine(scale=1)", "needs 0 <= scale < 1"),
        ("decode", "yields uint8 (None, None, 3), not uint8 (8, 8, 3); end with a resize or crop"),
        ("decode|resize_small", "end with a resize or crop"),
    ],
)
def test_strings_that_cannot_work_are_refused_before_any_image_is_read(text, reason):
    with pytest.raises(BadSetting) as error:
        compiled(text)
    message = str(error.value)
    assert message.startswith(f"{FIELD} = {text!r}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(224, 224), (8, 12)])
def test_the_default_strings_work(size, channels):
    check_preprocess(DataSettings(image_size=size, channels=channels))


def test_check_preprocess_names_the_setting():
    with pytest.raises(BadSetting, match=r"^config\.data\.eval_preprocess = 'decode'"):
        check_preprocess(DataSettings(eval_preprocess="decode"))


@pytest.mark.parametrize("end", ["resize", "central_crop", "random_crop(2)", "inception_crop(0.5)", "inception_crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_compiled_strings_give_uint8_images_of_the_size(encode, end, channels):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    found = compiled(f"decode|{end}|flip|random_affine", (8, 12), channels)(encode(image), np.array((1, 2), np.int32))
    assert found.dtype == np.uint8
    assert found.shape == (8, 12, channels)


def test_each_operation_draws_its_own_random_numbers(encode):
    # With one seed for both, a second flip would always undo the first.
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    run, data = compiled("decode|flip|flip|central_crop"), encode(image)
    mirrored = [not np.array_equal(run(data, np.array((n, 0), np.int32)), image) for n in range(30)]
    assert 0 < sum(mirrored) < 30


@pytest.mark.parametrize(
    "text", ["decode|resize_small|random_affine|inception_crop|flip", "decode|resize|solarize|flip"]
)
def test_host_and_graph_operations_may_follow_each_other_in_any_order(encode, text):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    run, data = compiled(text, (8, 12)), encode(image)
    found = [run(data, np.array((n, 0), np.int32)) for n in (0, 0, 1, 2, 3)]
    assert {(f.shape, f.dtype) for f in found} == {((8, 12, 3), np.dtype(np.uint8))}
    assert np.array_equal(found[0], found[1])
    assert len({f.tobytes() for f in found}) > 1


def test_a_host_operation_after_a_graph_operation_does_what_it_does_alone(encode):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    run = compiled("decode|random_affine(0, 0, 0)|central_crop", (8, 12))
    assert np.array_equal(run(encode(image), np.array((1, 2), np.int32)), image[6:14, 9:21])


def test_label_operations_stand_anywhere_and_leave_the_image_alone(encode):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for text in ("onehot(4)|decode|flip|central_crop", "decode|flip|central_crop|onehot(4)"):
        program = compile_steps(text, FIELD, (8, 8), 3)
        assert [step[0].__name__ for _, step in program.label_steps] == ["onehot"]
        found = program.image(encode(image), np.array((1, 2), np.int32))
        assert np.array_equal(found, image) or np.array_equal(found, image[:, ::-1])


def test_operations_run_as_they_are_written_on_every_python(monkeypatch):
    # AutoGraph would rewrite this `if` where it works and refuse it where it does not.
    monkeypatch.setitem(OPS, "dim", lambda image, context: image // 2 if tf.reduce_max(image) > 128 else image)
    with pytest.raises(BadSetting, match=r"does not fit together \(.*[Pp]ython"):
        compiled("decode|resize|dim")
