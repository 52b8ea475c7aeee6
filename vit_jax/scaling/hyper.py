"""The algebra of sweeps: lists of points, where a point is a flat dict {"config.a.b": value}.

A sweep file takes this module as the argument of `get_hyper`:

    def get_hyper(hyper):
        models = hyper.table(
            ("model.variant", "schedule.learning_rate"),
            [("B/32", 8e-4), ("L/16", 4e-4)],
        )
        points = hyper.product([models, hyper.sweep("seed", range(3))])
        return hyper.when({"model.variant": "L/16"}, points, {"train.duration": "14 epochs"})

`sweep`, `fixed`, `product`, `zipit` and `chainit` are called like the functions of the same names that the published
config files of big_vision and Scenic expect; `table`, `when` and `then` are ours. Keys may be written with or without
`config.`; points always have it. The key `config` by itself names the config file that a point starts from, in place
of the `get_config` of the sweep file: `hyper.sweep("config", ["configs/pretrain.py:B/16,jft"])`. Whatever makes no
sense, such as a sweep without points, is a `UserError`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vit_jax.errors import UserError

Point = dict[str, Any]

BASE = "config"  # the key that names a config file
WEIGHTS = "config.init.checkpoint"
_PREFIX = "config."


@dataclasses.dataclass(frozen=True)
class WeightsOf:
    """As the value of `init.checkpoint`: the weights of another run of the sweep, whose point this is."""

    point: Mapping[str, Any]


def sweep(key: str, values: Iterable[Any]) -> list[Point]:
    """One point for each value of a key.

    Raises:
      UserError: there are no values, or they are a string or a dict.
    """
    if isinstance(values, str | Mapping):
        raise UserError(f"hyper.sweep({key!r}): the values are {values!r}; write a list of them")
    points = [{full_key(key): value} for value in values]
    if not points:
        raise UserError(f"hyper.sweep({key!r}): no values; leave the sweep out, or give at least one")
    return points


def fixed(key: str, value: Any, length: int = 1) -> list[Point]:
    """The same value `length` times: once for `product`, as often as the others for `zipit`."""
    return sweep(key, [value] * length)


def table(keys: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Point]:
    """One point for each row, as papers list their settings.

    Args:
      keys: of the columns.
      rows: a value for each key.

    Raises:
      UserError: there are no rows, or one has another number of values.
    """
    if isinstance(keys, str):
        raise UserError(f"hyper.table: the keys are {keys!r}; write a tuple of them")
    points = []
    for i, row in enumerate(rows):
        if len(row) != len(keys):
            raise UserError(f"hyper.table: row {i}, {row!r}, has {len(row)} values for {len(keys)} keys")
        points.append(_merge("table", [{full_key(key): value} for key, value in zip(keys, row, strict=True)]))
    if not points:
        raise UserError(f"hyper.table{tuple(keys)}: no rows")
    return points


def product(sweeps: Iterable[Iterable[Point]]) -> list[Point]:
    """Every combination of one point from each sweep; the last sweep changes fastest. No sweeps make one empty point.

    Raises:
      UserError: a sweep has no points, or two of them give one key different values.
    """
    return [_merge("product", points) for points in itertools.product(*_lists("product", sweeps))]


def zipit(sweeps: Iterable[Iterable[Point]]) -> list[Point]:
    """The first points of all sweeps together, then the second ones, and so on.

    Raises:
      UserError: the sweeps have different numbers of points or none, or two of them give one key different values.
    """
    lists = _lists("zipit", sweeps)
    lengths = [len(points) for points in lists]
    if len(set(lengths)) != 1:
        found = f"sweeps of {', '.join(map(str, lengths))} points" if lengths else "no sweeps"
        raise UserError(f"hyper.zipit: {found}; all must have the same number of points, at least one")
    return [_merge("zipit", points) for points in zip(*lists, strict=True)]


def chainit(sweeps: Iterable[Iterable[Point]]) -> list[Point]:
    """The points of the first sweep, then those of the second, and so on.

    Raises:
      UserError: there is no sweep, or one has no points.
    """
    lists = _lists("chainit", sweeps)
    if not lists:
        raise UserError("hyper.chainit: no sweeps; give at least one")
    return [dict(point) for points in lists for point in points]


def when(
    condition: Mapping[str, Any] | Callable[[Point], bool], points: Iterable[Point], overrides: Mapping[str, Any]
) -> list[Point]:
    """The same points, some with other values: `when({"model.variant": ["L/16", "L/32"]}, points, {"seed": 1})`.

    Args:
      condition: values that keys of a point must have, a list standing for any of its members; or a function of the
        point, whose keys start with `config.`.
      points: of a sweep.
      overrides: added to the points that meet the condition, in place of what they say.

    Raises:
      UserError: no point meets the condition.
    """
    (found,) = _lists("when", [points])
    if callable(condition):
        test, said = condition, getattr(condition, "__name__", "the function")
    else:
        wanted = {full_key(key): value if isinstance(value, list) else [value] for key, value in condition.items()}
        test, said = lambda point: all(key in point and point[key] in wanted[key] for key in wanted), dict(condition)
    added = {full_key(key): value for key, value in overrides.items()}
    meets = [bool(test(point)) for point in found]
    if not any(meets):
        raise UserError(f"hyper.when({said}): true for none of the {len(found)} points")
    return [{**point, **added} if meet else dict(point) for point, meet in zip(found, meets, strict=True)]


def then(parents: Iterable[Point], children: Iterable[Point] | Callable[[Point], Iterable[Point]]) -> list[Point]:
    """Each parent, and after it its children: runs that start from its weights, such as fine-tuning.

        hyper.then(pretraining, hyper.sweep("data.task", ["cifar10", "oxford_iiit_pet"]))

    A child is its parent with other values. One that names a config of its own, by the key `config`, is that config
    with its values, and has nothing of its parent but the weights.

    Args:
      parents: of a sweep.
      children: of each parent; or a function that gives them for a parent's point, whose keys start with `config.`.

    Raises:
      UserError: there are no parents, or no children.
    """
    (found,) = _lists("then", [parents])
    points = []
    for parent in found:
        (own,) = _lists("then", [children(parent) if callable(children) else children])
        start = {WEIGHTS: WeightsOf(parent)}
        points += [parent, *({**({} if BASE in child else parent), **child, **start} for child in own)]
    return [dict(point) for point in points]


def full_key(key: str) -> str:
    """`seed` and `config.seed` -> `config.seed`; `config` stays."""
    if key == BASE:
        return key
    if not isinstance(key, str) or not key.removeprefix(_PREFIX):
        raise UserError(f"hyper: the key {key!r} is no name of a setting, such as 'model.variant'")
    return key if key.startswith(_PREFIX) else _PREFIX + key


def _lists(function: str, sweeps: Iterable[Iterable[Point]]) -> list[list[Point]]:
    """The sweeps as lists of points, none of them empty."""
    lists = [list(points) for points in sweeps]
    for i, points in enumerate(lists):
        if not points:
            raise UserError(f"hyper.{function}: sweep {i} has no points")
        if not all(isinstance(point, dict) for point in points):
            raise UserError(f"hyper.{function}: sweep {i} is no list of points; write hyper.{function}([sweep, sweep])")
    return lists


def _merge(function: str, points: Iterable[Point]) -> Point:
    merged: Point = {}
    for point in points:
        for key, value in point.items():
            if key in merged and repr(merged[key]) != repr(value):  # 1, 1.0 and True are different settings
                raise UserError(f"hyper.{function}: {key} is set twice, to {merged[key]!r} and {value!r}")
            merged[key] = value
    return merged
