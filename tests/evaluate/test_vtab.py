"""The VTAB score against the paper's own tables."""

import pytest

from vit_jax.data import catalog
from vit_jax.evaluate import vtab_score

# Table 9 of the paper, in its order, and the mean that table 2 and the table itself give.
TABLE9 = {
    "H/14 JFT": (
        "95.3 85.5 75.2 99.7 97.2 65.0 88.9 83.3 96.7 91.4 76.6 91.7 63.8 53.1 79.4 63.3 84.5 33.2 51.2",
        (86.69, 87.00, 65.03),
        77.6,
    ),
    "L/16 JFT": (
        "95.4 81.9 74.3 99.7 96.7 63.5 87.4 83.6 96.5 89.7 77.1 86.4 63.1 49.7 74.5 60.5 82.2 36.2 51.1",
        (85.56, 86.72, 62.96),
        76.3,
    ),
    "L/16 21k": (
        "90.8 84.1 74.1 99.3 92.7 61.0 80.9 82.5 95.6 85.2 75.3 70.3 56.1 41.9 74.7 64.9 79.9 30.5 41.7",
        (83.27, 84.65, 57.50),
        72.7,
    ),
}


@pytest.mark.parametrize("model", TABLE9)
def test_the_score_of_table_9_is_that_of_the_paper(model):
    text, groups, mean = TABLE9[model]
    accuracies = dict(zip(catalog.VTAB, map(float, text.split()), strict=True))
    found = vtab_score(accuracies)
    assert found["mean"] == pytest.approx(sum(accuracies.values()) / 19)
    assert found["mean"] == pytest.approx(mean, abs=0.06)
    assert (found["natural"], found["specialized"], found["structured"]) == pytest.approx(groups, abs=0.006)


def test_a_missing_task_is_an_error():
    with pytest.raises(KeyError):
        vtab_score(dict.fromkeys(catalog.VTAB[:-1], 0.5))
