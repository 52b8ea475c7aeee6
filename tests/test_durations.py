"""Durations: what can be written, what it means in steps, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.durations import Duration
from vit_jax.errors import BadSetting


def steps(text, batch_size=10, examples=1000, total=200):
    duration = Duration.parse(text, "every")
    return duration.steps(batch_size=batch_size, examples_per_epoch=examples, total_steps=total, field="every")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("1 step", 1),
        ("7steps", 7),
        ("  7   steps ", 7),
        ("10_000 steps", 10_000),
        ("2k steps", 2_000),
        ("1.5M steps", 1_500_000),
        ("2e3 steps", 2_000),
        ("1 epoch", 100),
        ("2.5 epochs", 250),
        ("1 example", 0),
        ("64 examples", 6),
        ("3k examples", 300),
        ("10%", 20),
        ("2.5 percent", 5),
        ("0 steps", 0),
    ],
)
def test_a_duration_in_steps(text, expected):
    assert steps(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "-3 steps", "3 hours", "steps", ".", "1e", "3 steps 4", "nan", "inf epochs"]
)
def test_what_is_no_duration_is_refused_with_the_accepted_forms(text):
    with pytest.raises(BadSetting) as caught:
        Duration.parse(text, "warmup")
    assert str(caught.value).startswith(f"warmup = {text!r}: write it as '5000 steps', '90 epochs'")


@pytest.mark.parametrize("text", ["1e999 steps", "1e308 M"])
def test_an_endless_duration_is_refused(text):
    with pytest.raises(BadSetting, match="is too large"):
        Duration.parse(text, "warmup")


def test_epochs_need_a_data_set_that_has_them():
    with pytest.raises(BadSetting, match=r"every = '3 epochs': this data set has no epochs; use steps or examples"):
        steps("3 epochs", examples=None)


def test_percent_need_the_length_of_the_run():
    with pytest.raises(BadSetting, match=r"every = '10%': the length of the run itself cannot be a percentage"):
        steps("10%", total=None)


@given(st.integers(0, 10**9))
def test_steps_are_themselves(number):
    assert steps(f"{number} steps") == steps(str(number)) == number


@given(st.integers(0, 10**6), st.integers(1, 4096), st.integers(1, 10**6))
def test_epochs_and_examples_are_met_to_half_a_batch(hundredths, batch_size, examples):
    wanted = hundredths / 100 * examples
    assert abs(steps(f"{hundredths / 100} epochs", batch_size, examples) * batch_size - wanted) <= batch_size * 0.501
    assert abs(steps(f"{hundredths} examples", batch_size) * batch_size - hundredths) <= batch_size / 2


@given(st.integers(0, 100), st.integers(1, 10**6))
def test_percents_are_met_to_half_a_step_and_complement_each_other(percent, total):
    found = steps(f"{percent}%", total=total)
    assert abs(found - percent * total / 100) <= 0.5
    assert abs(found + steps(f"{100 - percent}%", total=total) - total) <= 1
    assert steps("100%", total=total) == total


@pytest.mark.parametrize(
    ("text", "total", "expected"),
    [
        ("10k steps, at most 20%", 100_000, 10_000),
        ("10k steps, at most 20%", 1_000, 200),
        ("5 epochs, at most 25 %", 1_000, 50),
        ("1k steps , at  most  100 steps", 10, 100),
    ],
)
def test_the_shorter_of_two_counts(text, total, expected):
    parsed = Duration.parse(text, "warmup")
    assert parsed.steps(batch_size=10, examples_per_epoch=100, total_steps=total, field="warmup") == expected


@pytest.mark.parametrize(
    "text", ["9 steps, at most", "9 steps, at least 5%", "1, at most 2, at most 3", ", at most 5%"]
)
def test_other_conditions_are_refused(text):
    with pytest.raises(BadSetting, match=r"10k steps, at most 20%"):
        Duration.parse(text, "warmup")
