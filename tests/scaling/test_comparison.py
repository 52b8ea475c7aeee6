"""Which numbers are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scaling.studies import result, the_papers_study
from vit_jax.scaling.comparison import (
    AVERAGE,
    Point,
    compute_unit,
    evaluations,
    points_of_paper,
    points_of_runs,
    score,
    title,
)
from vit_jax.scaling.table6 import EVALUATIONS


def test_seeds_are_averaged_and_the_best_setting_stands_for_a_model():
    runs = [
        result(overrides={"config.seed": seed, "config.schedule.learning_rate": rate}, scores={"eval": accuracy})
        for seed, rate, accuracy in [(0, 1e-3, 80), (1, 1e-3, 90), (0, 2e-3, 84), (1, 2e-3, 84), (0, 3e-3, 10)]
    ]
    assert points_of_runs(runs, "eval") == {"ViT": [Point("B/16", 100.0, 85.0)]}


def test_other_models_and_lengths_are_points_of_their_own():
    runs = [
        result(model=model, family=family, exaflops=compute, epochs=epochs, scores={"eval": accuracy})
        for model, family, compute, epochs, accuracy in [
            ("L/16", "ViT", 200.0, 13.97, 88.0),
            ("L/16", "ViT", 100.0, 7.0, 86.0),
            ("B/16", "ViT", 50.0, 7.0, 80.0),
            ("R50x1", "ResNet", 50.0, 7.0, 77.0),
        ]
    ]
    assert points_of_runs(runs, "eval") == {
        "ViT": [Point("B/16", 50, 80), Point("L/16, 7 ep", 100, 86), Point("L/16, 14 ep", 200, 88)],
        "ResNet": [Point("R50x1", 50, 77)],
    }


@pytest.mark.parametrize("status", ["failed", "unfinished", "waiting"])
def test_only_finished_runs_are_compared(status):
    assert points_of_runs([result(status, scores={"eval": 80})], "eval") == {}
    assert points_of_runs([result(scores={"other": 80})], "eval") == {}


def test_the_average_of_five_needs_all_five():
    run = the_papers_study().runs[0]
    assert score(run, AVERAGE) == pytest.approx((80.73 + 98.61 + 90.49 + 93.40 + 99.27) / 5)
    fewer = {name: value for name, value in run.scores.items() if name != "cifar10"}
    assert score(result(scores=fewer), AVERAGE) is None
    assert evaluations([result(scores={"zoo": 1.0, **fewer})]) == [*(n for n in EVALUATIONS if n != "cifar10"), "zoo"]
    assert evaluations(the_papers_study().runs) == [*EVALUATIONS, AVERAGE]


def test_the_papers_points_are_those_of_its_runs():
    runs = the_papers_study().runs
    for evaluation in (AVERAGE, "imagenet2012"):
        assert points_of_paper(evaluation) == points_of_runs(runs, evaluation)
    assert points_of_paper("eval") == {}


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [("cifar10", "CIFAR-10"), ("eval", "accuracy"), (AVERAGE, "average of 5"), ("x/y", "x/y")],
)
def test_titles(evaluation, expected):
    assert title(evaluation) == expected


@pytest.mark.parametrize(
    ("computes", "unit", "size"),
    [([50, 5000], "exaFLOPs", 1), ([1e-6, 1e-4], "teraFLOPs", 1e-6), ([0.5], "petaFLOPs", 1e-3), ([], "exaFLOPs", 1)],
)
def test_compute_has_a_unit_that_suits_it(computes, unit, size):
    assert compute_unit(computes) == (unit, pytest.approx(size))


@given(st.floats(1e-20, 1e12))
def test_numbers_in_the_unit_are_readable_as_far_as_there_are_names(compute):
    name, size = compute_unit([compute])
    readable = 0.999 <= compute / size <= 1000.1
    assert readable or name in ("gigaFLOPs", "zettaFLOPs")
