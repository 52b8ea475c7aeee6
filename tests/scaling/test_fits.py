"""The fit finds what synthetic runs were made of, and its intervals hold as often as they say."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize

from vit_jax.errors import UserError
from vit_jax.scaling.fits import fit_power_law, interval

FLOOR, B, EXPONENT = 3.0, 40.0, 0.4


def truth(compute, floor=FLOOR, b=B, exponent=EXPONENT):
    return floor + b * compute**-exponent


def compute_of(runs, seed=0):
    return np.exp(np.random.default_rng(seed).uniform(np.log(50), np.log(5000), runs))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 20),
    st.floats(0.5, 60),
    st.floats(0.05, 2.0),
    st.integers(4, 12),
    st.floats(-12, 12),
    st.integers(0, 2**32 - 1),
)
def test_without_noise_the_coefficients_come_back(floor, scale, exponent, runs, unit, seed):
    compute = compute_of(runs, seed) * 10.0**unit
    assume(np.ptp(np.log(compute)) > 0.5)  # closer together, a floor and a slope look alike
    b = scale * float(np.exp(np.log(compute).mean())) ** exponent
    error = truth(compute, floor, b, exponent)
    fit = fit_power_law(compute, error, resamples=20)
    assert fit.coefficients == pytest.approx((floor, b, exponent), rel=1e-3, abs=1e-3)
    assert fit.noise < 1e-6 * error.max()
    assert fit.r2 == pytest.approx(1, abs=1e-6)
    assert fit.band(compute)[1] == pytest.approx(error, rel=1e-4)


def test_with_noise_the_coefficients_lie_in_their_intervals():
    rng = np.random.default_rng(1)
    compute = np.geomspace(50, 5000, 12)
    fit = fit_power_law(compute, truth(compute) + 0.2 * rng.standard_normal(12))
    found = fit.intervals()
    assert found["floor"][0] < FLOOR < found["floor"][1]
    assert found["exponent"][0] < EXPONENT < found["exponent"][1]
    low, high = fit.band(compute)
    assert ((low < truth(compute)) & (truth(compute) < high)).mean() > 0.8
    assert 0.1 < fit.noise < 0.3


@pytest.mark.parametrize("runs", [4, 6, 12])
def test_nine_of_ten_intervals_hold_the_truth(runs):
    """Over 200 studies of so many runs; two standard deviations of such a count are 4 %."""
    rng = np.random.default_rng(runs)
    compute = np.geomspace(50, 5000, runs)
    inside, in_band = 0, []
    for _ in range(200):
        fit = fit_power_law(compute, truth(compute) + 0.3 * rng.standard_normal(runs), resamples=200)
        low, high = fit.intervals()["exponent"]
        inside += low <= EXPONENT <= high
        low, high = fit.band(compute[1:-1])
        in_band += [np.mean((low <= truth(compute[1:-1])) & (truth(compute[1:-1]) <= high))]
    assert 0.84 <= inside / 200 <= 0.97
    assert 0.84 <= np.mean(in_band) <= 0.97


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_no_curve_of_scipy_is_closer_to_the_runs(seed):
    rng = np.random.default_rng(seed)
    compute = np.sort(compute_of(8, seed))
    error = truth(compute) + 0.5 * rng.standard_normal(8)
    fit = fit_power_law(compute, error, resamples=2)

    def residuals(parameters):
        return parameters[0] + np.exp(parameters[1] - parameters[2] * np.log(compute / 500)) - error

    bounds = ([0, -9, 0.01], [100, 9, 4])
    starts = [(floor, 1.0, exponent) for floor in (0.1, 3.0, 8.0) for exponent in (0.05, 0.4, 1.5)]
    theirs = min(2 * optimize.least_squares(residuals, start, bounds=bounds).cost for start in starts)
    ours = float(((fit.best.error(compute)[0] - error) ** 2).sum())
    assert ours <= theirs * (1 + 1e-6)
    assert fit.noise == pytest.approx((ours / 5) ** 0.5)


def test_floor_and_scale_are_never_negative():
    compute = np.geomspace(1, 100, 6)
    rising = fit_power_law(compute, np.arange(6.0))
    assert rising.best.scale[0] == 0
    assert rising.best.floor[0] == pytest.approx(2.5)
    steep = fit_power_law(compute, np.array([50.0, 20, 8, 3, 1, 0]))  # the error vanishes: no floor
    assert steep.best.floor[0] == 0
    assert (steep.resampled.floor >= 0).all()


def test_compute_is_the_inverse_of_error():
    compute = np.geomspace(50, 5000, 6)
    fit = fit_power_law(compute, truth(compute), resamples=2)
    assert fit.best.compute(fit.best.error(compute)[0])[0] == pytest.approx(compute)
    assert fit.best.compute([FLOOR - 0.01, FLOOR - 1])[0].tolist() == [np.inf, np.inf]


def test_the_same_seed_gives_the_same_intervals():
    compute = np.geomspace(50, 5000, 6)
    error = truth(compute) + np.array([0.1, -0.2, 0.3, -0.1, 0.2, -0.3])
    one, same, other = (fit_power_law(compute, error, seed=seed).intervals() for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(("compute", "found"), [([1, 2, 3], 3), ([1, 1, 2, 2], 4), ([], 0)])
def test_too_few_runs_are_refused(compute, found):
    with pytest.raises(UserError, match=f"needs 4 runs of 3 different computes, not {found}"):
        fit_power_law(np.array(compute, float), np.ones(len(compute)))


def test_an_interval_may_be_open():
    values = np.array([1.0] * 10 + [2.0] * 80 + [np.inf] * 10)
    assert interval(values) == (1.0, np.inf)
    assert interval(values, level=0.5) == (2.0, 2.0)
