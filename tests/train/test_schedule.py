"""Learning-rate curves against the formulas."""

import math

import pytest

from vit_jax.errors import BadSetting
from vit_jax.train import make_schedule
from vit_jax.train.settings import ScheduleSettings

TOTAL, WARMUP, BASE = 1000, 100, 0.5


def _curve(name, cooldown=0, timescale=50, warmup=WARMUP, **more):
    settings = ScheduleSettings(name=name, learning_rate=BASE, **more)
    return make_schedule(settings, TOTAL, warmup, timescale, cooldown)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "rsqrt"])
def test_warmup_is_linear_from_zero_to_the_full_rate(name):
    curve = _curve(name)
    assert float(curve(0)) == 0
    for step in (1, 37, 100):
        assert float(curve(step)) == pytest.approx(BASE * step / WARMUP, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("constant", lambda progress, after: BASE),
        ("linear", lambda progress, after: BASE * (1 - progress)),
        ("cosine", lambda progress, after: BASE * (1 + math.cos(math.pi * progress)) / 2),
        ("rsqrt", lambda progress, after: BASE / math.sqrt(1 + after / 50)),
    ],
)
def test_decay_is_measured_after_the_warmup(name, formula):
    curve = _curve(name)
    for step in (100, 101, 550, 999, 1000):
        after = step - WARMUP
        assert float(curve(step)) == pytest.approx(formula(after / (TOTAL - WARMUP), after), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_end_factor_is_where_the_decay_ends(name):
    assert float(_curve(name, end_factor=0.1)(TOTAL)) == pytest.approx(0.1 * BASE, rel=1e-5)


def test_no_warmup_starts_at_the_full_rate():
    assert float(_curve("cosine", warmup=0)(0)) == BASE


def test_cooldown_falls_linearly_to_zero():
    curve, without = _curve("rsqrt", cooldown=200), _curve("rsqrt")
    assert float(curve(800)) == pytest.approx(float(without(800)))
    assert float(curve(900)) == pytest.approx(float(without(900)) / 2)
    assert float(curve(1000)) == 0


def test_warmup_and_cooldown_must_fit_into_the_run():
    with pytest.raises(BadSetting, match=r"config.schedule.warmup.*run of 1000"):
        _curve("rsqrt", cooldown=901)


@pytest.mark.parametrize(
    ("boundaries", "warmup", "total"),
    [((200, 300, 400), 100, 500), ((3000, 6000, 9000), 500, 10_000), ((6000, 12_000, 18_000), 500, 20_000)],
)
def test_a_staircase_falls_to_a_tenth_at_each_boundary(boundaries, warmup, total):
    """The three forms of the BiT-HyperRule (arXiv 1912.11370)."""
    settings = ScheduleSettings(name="staircase", learning_rate=0.003)
    curve = make_schedule(settings, total, warmup, 1, 0, boundaries)
    for step in (0, warmup // 2, warmup, *boundaries, *(b + 1 for b in boundaries), total - 1):
        tenths = sum(step > b for b in boundaries)
        at_boundary = step in boundaries
        wanted = 0.003 * min(1.0, step / warmup) * 0.1**tenths
        assert float(curve(step)) == pytest.approx(wanted, rel=1e-5) or (
            at_boundary and float(curve(step)) == pytest.approx(wanted / 10, rel=1e-5)
        )


def test_boundaries_must_ascend_after_the_warmup():
    settings = ScheduleSettings(name="staircase")
    for boundaries in ((50, 200), (300, 200)):
        with pytest.raises(BadSetting, match=r"config.schedule.boundaries.*ascending and after the warm-up of 100"):
            make_schedule(settings, 500, 100, 1, 0, boundaries)
