"""Compute at equal accuracy: constructed curves, and the claim of the ViT paper on its own table 6."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.scaling.gains import Gain, compute_gains, fit_families, pareto_front, times
from vit_jax.scaling.table6 import AVERAGE_OF_5, TABLE_6

runs = st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=12)


@given(runs)
def test_the_front_is_what_no_run_beats(found):
    def beaten(run):
        return any(c <= run[0] and a >= run[1] and (c, a) != run for c, a in found)

    front = pareto_front(found)
    assert set(front) == {run for run in found if not beaten(run)}
    assert front == sorted(set(front))
    assert [accuracy for _, accuracy in front] == sorted({accuracy for _, accuracy in front})


def curve(compute, saves=1.0, noise=0.0, seed=0):
    """Accuracies of runs whose family needs `saves` times less compute than 100 - 3 - 40 C^-0.4."""
    rng = np.random.default_rng(seed)
    accuracy = 97 - 40 * (np.asarray(compute) * saves) ** -0.4 + noise * rng.standard_normal(len(compute))
    return list(zip(compute, accuracy, strict=True))


COMPUTE = np.geomspace(50, 5000, 7)


def gains(families):
    return compute_gains(families, fit_families(families))


def test_a_family_that_saves_three_times_is_found_to():
    (gain,) = gains({"slow": curve(COMPUTE), "quick": curve(COMPUTE, saves=3.0)})
    assert (gain.frugal, gain.costly) == ("quick", "slow")
    assert (gain.typical, gain.lowest, gain.highest) == pytest.approx((3, 3, 3), rel=1e-3)
    assert gain.interval == pytest.approx((3, 3), rel=1e-2)
    # The slow family's best run and the quick family's worst bound what can be compared.
    assert gain.accuracies == pytest.approx((97 - 40 * 150**-0.4, 97 - 40 * 5000**-0.4))


def test_nine_of_ten_intervals_hold_the_truth():
    """Over 60 pairs of studies; two standard deviations of such a count are 8 %."""
    hits = 0
    for seed in range(60):
        families = {"a": curve(COMPUTE, 3.0, 0.15, seed), "b": curve(COMPUTE, 1.0, 0.15, 1000 + seed)}
        (gain,) = compute_gains(families, fit_families(families, seed=seed))
        assert gain.interval
        hits += gain.interval[0] <= 3 <= gain.interval[1]
    assert 0.82 <= hits / 60 <= 0.98


def test_too_few_runs_are_compared_by_lines_between_them():
    families = {"a": [(10.0, 80.0), (40.0, 90.0)], "b": [(40.0, 80.0), (640.0, 100.0), (50.0, 60.0)]}
    (gain,) = gains(families)
    # At 80 %: 40 / 10. At 90 %: 160 / 40, half-way from 40 to 640 in logarithms. The run of 60 % is beaten.
    assert (gain.typical, gain.lowest, gain.highest) == pytest.approx((4, 4, 4))
    assert gain.interval is None
    assert gain.accuracies == (80, 90)


def test_accuracy_that_falls_with_compute_has_no_curve():
    falling = [(compute, 200 - accuracy) for compute, accuracy in curve(COMPUTE)]
    assert fit_families({"up": curve(COMPUTE), "down": falling}).keys() == {"up"}


@pytest.mark.parametrize(
    "families",
    [
        {"a": curve(COMPUTE)},
        {"a": [(1.0, 50.0), (2.0, 60.0)], "b": [(1.0, 70.0), (2.0, 80.0)]},
        {"a": [(1.0, 50.0)], "b": [(1.0, 50.0)]},
        {"a": curve(COMPUTE), "b": [(c, a - 40) for c, a in curve(COMPUTE)]},
        {"a": curve(COMPUTE), "b": []},
    ],
)
def test_without_a_common_accuracy_nothing_is_claimed(families):
    assert gains(families) == []


def table_6(evaluations):
    families = {}
    for run in TABLE_6:
        accuracy = np.mean([run.accuracies[name] for name in evaluations])
        families.setdefault(run.family, []).append((run.exaflops, accuracy))
    return families


def test_the_paper_shows_its_claim_of_2_to_4_times_on_the_average_of_five():
    """Section 4.4: ViTs use about 2 to 4 times less compute than ResNets to attain the same performance."""
    by_pair = {(g.frugal, g.costly): g for g in gains(table_6(AVERAGE_OF_5))}
    gain = by_pair["ViT", "ResNet"]
    assert 3.2 < gain.typical < 3.8
    assert gain.interval
    assert 2.0 < gain.interval[0] < 3.0
    assert gain.interval[1] > 4.0
    assert gain.accuracies == pytest.approx((92.5, 94.9), abs=0.1)
    # Hybrids beat ViTs at small budgets only: the ratio crosses 1 as compute grows.
    hybrid = by_pair["hybrid", "ViT"]
    assert hybrid.lowest < 1 < hybrid.highest


def test_on_imagenet_alone_the_claim_is_its_lower_end():
    (gain,) = (g for g in gains(table_6(("imagenet2012",))) if (g.frugal, g.costly) == ("ViT", "ResNet"))
    assert 1.8 < gain.typical < 2.2
    assert gain.interval
    assert 1.4 < gain.interval[0] < 2.0 < gain.interval[1] < 3.0


@pytest.mark.parametrize("evaluations", [AVERAGE_OF_5, ("imagenet2012",)])
def test_lines_between_the_papers_runs_say_the_same_as_its_curves(evaluations):
    families = table_6(evaluations)
    (curves,), (lines,) = (
        [g for g in compute_gains(families, fits) if (g.frugal, g.costly) == ("ViT", "ResNet")]
        for fits in (fit_families(families), {})
    )
    assert lines.typical == pytest.approx(curves.typical, rel=0.2)
    assert lines.interval is None


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((2.3, 7.0), "(90% interval 2.3 to 7.0; 3.3 to 5.8 between 92.5 % and 94.9 %)"),
        ((2.3, np.inf), "(90% interval from 2.3 up; 3.3 to 5.8 between 92.5 % and 94.9 %)"),
        (None, "(read between the runs, without an interval; 3.3 to 5.8 between 92.5 % and 94.9 %)"),
    ],
)
def test_the_sentence_says_how_sure_it_is(interval, expected):
    gain = Gain("ViT", "ResNet", 3.46, 3.3, 5.76, interval, (92.52, 94.93))
    sentence = gain.sentence("average accuracy")
    assert sentence == f"At equal average accuracy, ViTs need 3.5 times less compute than ResNets {expected}."


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.7, 7.0), "0.7 to 7.0"),
        ((1e-17, 7.0), "up to 7.0"),
        ((1e-17, 1e19), "open on both sides"),
        ((0.0, np.inf), "open on both sides"),
        ((1.0, 1e19), "from 1.0 up"),
    ],
)
def test_what_may_be_the_other_way_round_only_seems_so(interval, expected):
    sentence = Gain("ViT", "ResNet", 3.46, 3.3, 5.76, interval, (92.52, 94.93)).sentence("accuracy")
    assert f"ViTs seem to need 3.5 times less compute than ResNets (90% interval {expected}; " in sentence


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (2, "2.0"), (9.94, "9.9"), (10.3, "10"), (1234.5, "1,234"), (0.98, "0.98")]
)
def test_factors_have_two_digits(value, text):
    assert times(value) == text
