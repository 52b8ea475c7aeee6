"""The sweep algebra: sizes, orders and laws that hold for all sweeps, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.errors import UserError
from vit_jax.scaling import hyper

scalars = st.one_of(st.integers(-3, 3), st.sampled_from(["B/16", "90 epochs", None, 0.5]))


def sweeps(letters):
    """Sweeps over one to three of these keys, of one to four points."""

    def points(keys):
        return st.lists(st.fixed_dictionaries({f"config.{key}": scalars for key in keys}), min_size=1, max_size=4)

    return st.lists(st.sampled_from(letters), min_size=1, max_size=3, unique=True).flatmap(points)


a_sweeps, b_sweeps, c_sweeps = sweeps("abc"), sweeps("def"), sweeps("ghi")


@given(st.lists(scalars, min_size=1, max_size=8), st.sampled_from(["lr", "config.lr"]))
def test_a_sweep_has_a_point_for_each_value_in_order(values, key):
    assert hyper.sweep(key, iter(values)) == [{"config.lr": value} for value in values]


@given(scalars, st.integers(1, 5))
def test_fixed_is_one_value_so_many_times(value, length):
    assert hyper.fixed("a.b", value) == [{"config.a.b": value}]
    assert hyper.fixed("a.b", value, length=length) == [{"config.a.b": value}] * length


@given(st.tuples(a_sweeps, b_sweeps, c_sweeps))
def test_a_product_has_all_combinations_and_the_last_sweep_changes_fastest(three):
    points = hyper.product(three)
    assert len(points) == math.prod(map(len, three))
    a, b, c = three
    for i, point in enumerate(points):
        assert point == {
            **a[i // (len(b) * len(c))],
            **b[i // len(c) % len(b)],
            **c[i % len(c)],
        }


@given(a_sweeps, b_sweeps, c_sweeps)
def test_laws_of_the_product(a, b, c):
    one = hyper.product([])
    assert one == [{}]
    assert hyper.product([a, one]) == hyper.product([one, a]) == hyper.product([a]) == a
    assert hyper.product([hyper.product([a, b]), c]) == hyper.product([a, b, c])
    assert hyper.product([a, hyper.product([b, c])]) == hyper.product([a, b, c])


@given(a_sweeps, a_sweeps, b_sweeps)
def test_the_product_distributes_over_chains(x, y, b):
    left = hyper.product([hyper.chainit([x, y]), b])
    assert left == hyper.chainit([hyper.product([x, b]), hyper.product([y, b])])
    right = hyper.product([b, hyper.chainit([x, y])])
    both = hyper.chainit([hyper.product([b, x]), hyper.product([b, y])])
    assert sorted(map(repr, map(sorted_items, right))) == sorted(map(repr, map(sorted_items, both)))


def sorted_items(point):
    return sorted(point.items())


@given(a_sweeps, a_sweeps, b_sweeps)
def test_chains_keep_order_and_add_up(x, y, z):
    assert hyper.chainit([x, y, z]) == x + y + z
    assert hyper.chainit([hyper.chainit([x, y]), z]) == hyper.chainit([x, hyper.chainit([y, z])])


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(scalars, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_zipping_and_a_table_are_columns_and_rows_of_the_same(columns):
    keys = [f"config.key{i}" for i in range(len(columns))]
    zipped = hyper.zipit([hyper.sweep(key, column) for key, column in zip(keys, columns, strict=True)])
    rows = list(zip(*columns, strict=True))
    assert zipped == [dict(zip(keys, row, strict=True)) for row in rows]
    assert hyper.table(keys, rows) == zipped


@given(a_sweeps, b_sweeps, st.data())
def test_sweeps_of_unequal_lengths_are_never_zipped(a, b, data):
    if len(a) == len(b):
        b = b + b[: data.draw(st.integers(1, len(b)))]
    with pytest.raises(UserError, match=f"sweeps of {len(a)}, {len(b)} points; all must have the same number"):
        hyper.zipit([a, b])


@given(a_sweeps)
def test_the_sweeps_that_went_in_stay_as_they_are(a):
    before = [dict(point) for point in a]
    for points in (hyper.product([a]), hyper.zipit([a]), hyper.chainit([a]), hyper.when(bool, a, {"z": 1})):
        points[0]["config.changed"] = True
    assert a == before


MODELS = hyper.sweep("model.variant", ["B/16", "L/16", "H/14"])


def test_when_changes_the_points_that_meet_the_condition_and_no_others():
    points = hyper.product([MODELS, hyper.fixed("train.duration", "7 epochs")])
    changed = hyper.when({"config.model.variant": ["L/16", "H/14"]}, points, {"train.duration": "14 epochs", "seed": 1})
    assert changed[0] == points[0]
    assert changed[1:] == [
        {"config.model.variant": variant, "config.train.duration": "14 epochs", "config.seed": 1}
        for variant in ("L/16", "H/14")
    ]


def test_a_condition_may_be_a_value_of_several_keys_or_a_function():
    points = hyper.product([MODELS, hyper.sweep("seed", [0, 1])])
    by_keys = hyper.when({"model.variant": "B/16", "seed": 1}, points, {"x": 1})
    by_function = hyper.when(lambda p: p["config.model.variant"] < "C" and p["config.seed"] == 1, points, {"x": 1})
    assert by_keys == by_function
    assert ["config.x" in point for point in by_keys] == [False, True] + [False] * 4


def test_a_value_may_be_a_tuple():
    sizes = hyper.sweep("data.image_size", [(224, 224), (384, 384)])
    assert hyper.when({"data.image_size": (384, 384)}, sizes, {"seed": 1})[1]["config.seed"] == 1


def test_the_same_value_twice_is_no_conflict():
    assert len(hyper.product([hyper.fixed("seed", 1), hyper.sweep("config.seed", [1])])) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hyper.sweep("lr", []), r"hyper.sweep\('lr'\): no values"),
        (lambda: hyper.sweep("model.variant", "B/16"), "'B/16'; write a list"),
        (lambda: hyper.fixed("lr", 1, length=0), "no values"),
        (lambda: hyper.sweep("config.", [1]), "'config.' is no name of a setting"),
        (lambda: hyper.sweep(["lr"], [1]), "is no name of a setting"),
        (lambda: hyper.product([MODELS, []]), "hyper.product: sweep 1 has no points"),
        (lambda: hyper.product(MODELS), r"no list of points; write hyper.product\(\[sweep, sweep\]\)"),
        (lambda: hyper.product([MODELS, MODELS]), "config.model.variant is set twice, to 'B/16' and 'L/16'"),
        (lambda: hyper.product([hyper.fixed("a", 1), hyper.fixed("a", True)]), "set twice, to 1 and True"),
        (lambda: hyper.zipit([hyper.sweep("lr", [1, 2]), hyper.fixed("config.lr", 1, 2)]), "set twice, to 2 and 1"),
        (lambda: hyper.zipit([]), "hyper.zipit: no sweeps"),
        (lambda: hyper.chainit([]), "hyper.chainit: no sweeps"),
        (lambda: hyper.chainit([MODELS, iter([])]), "hyper.chainit: sweep 1 has no points"),
        (lambda: hyper.table(("a", "b"), [(1, 2), (1,)]), r"row 1, \(1,\), has 1 values for 2 keys"),
        (lambda: hyper.table(("a", "config.a"), [(1, 2)]), "config.a is set twice"),
        (lambda: hyper.table(("a",), []), "no rows"),
        (lambda: hyper.table("a", [(1,)]), "write a tuple"),
        (lambda: hyper.when({"model.variant": "B/61"}, MODELS, {"seed": 1}), "true for none of the 3 points"),
        (lambda: hyper.when({"model.varient": "B/16"}, MODELS, {"seed": 1}), "'model.varient'.*none of the 3 points"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
