"""Sizes from the catalog, against the splits of TFDS where those are on the disk, and by hand."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vit_jax.data import DataSettings, catalog, known_size, open_dataset
from vit_jax.data.sizes import split_size
from vit_jax.errors import BadSetting


@pytest.mark.parametrize(
    ("about", "size"),
    [
        ({"task": "imagenet2012"}, (1_281_167, 1000)),
        ({"task": "imagenet2012", "stage": "dev"}, (1_268_355, 1000)),  # 99 %
        ({"task": "cifar10", "stage": "dev"}, (49_000, 10)),
        ({"task": "vtab/caltech101"}, (1000, 102)),
        ({"task": "vtab/caltech101", "stage": "dev"}, (800, 102)),
        ({"task": "jft", "subset": "9M"}, (9_000_000, 18_291)),
        ({"task": "jft", "subset": "10%"}, (30_298_226, 18_291)),
        ({"task": "cifar100", "subset": "5 per class"}, (500, 100)),
        ({"task": "cifar10", "train_split": "train[-100:]+train[:1%]"}, (600, 10)),
        ({"name": "digits"}, (1437, 10)),
        ({"task": "jft", "name": "mine"}, None),  # a set of the user's has a size of its own
        ({"name": "folder"}, None),
        ({"task": "cifar10", "train_split": "test"}, None),
        ({"task": "cifar10", "label_key": "other"}, None),
    ],
)
def test_sizes_are_known_of_tasks_alone(about, size):
    assert known_size(DataSettings(**about)) == size


def test_a_subset_that_is_too_large_is_named():
    with pytest.raises(BadSetting, match=r"config.data.subset = '60k': the split has only 50,000 examples"):
        known_size(DataSettings(task="cifar10", subset="60k"))


def test_every_task_that_is_trained_on_has_a_size():
    for task in catalog.TASKS.values():
        if task.train:
            for stage in ("dev", "final"):
                size, classes = known_size(DataSettings(task=task.name, stage=stage))
                assert size > 0
                assert classes == task.classes


bounds = st.one_of(st.none(), st.integers(-1437, 1437).map(str), st.integers(-100, 100).map("{}%".format))


def place(bound, default):
    """Where a bound lies, before rounding."""
    if bound is None:
        return default
    number = int(bound.rstrip("%")) * (14.37 if bound.endswith("%") else 1)
    return number + 1437 * bound.startswith("-")


def one_unit(bounds):
    """A `%` at one bound is meant at the other."""
    percent = any(bound and bound.endswith("%") for bound in bounds)
    return [bound and bound.rstrip("%") + "%" * percent for bound in bounds]


@given(st.lists(st.tuples(bounds, bounds), min_size=1, max_size=3))
def test_slices_are_counted_as_tfds_counts_them(digits_dir, slices):
    """Nothing is compared where TFDS refuses a slice; of those that end before they begin it makes something else."""
    assume(all(place(a, 0) < place(b, 1437) for a, b in map(one_unit, slices)))
    split = "+".join(f"train[{a or ''}:{b or ''}]" for a, b in slices)
    try:
        expected = open_dataset(DataSettings(name="digits", data_dir=str(digits_dir)), split).size
    except BadSetting:
        return
    assert split_size(split, catalog.get("digits")) == expected
