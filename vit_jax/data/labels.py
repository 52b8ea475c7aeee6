"""Operations on the parsed record, in TensorFlow: what the label is, before any picture is decoded.

They stand in pre-processing strings like all others (`clevr_count|decode|resize`) and see every feature of the record.
A label is an int32 class number, or float32 (classes,) after `onehot` and `multihot`. The VTAB operations are those of
the benchmark's public loaders (arXiv 1910.04867).
"""

import inspect
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf

from vit_jax.data.ops import Context, F, label_op

Features = dict[str, tf.Tensor]
Names = tuple[str, ...]

_NAMES: dict[Callable[..., Any], Callable[..., Names]] = {}


def _named(rename: Callable[..., Names]) -> Callable[[F], F]:
    """Registers a label operation with `rename(names, **arguments)`, which gives the names of its classes.

    `rename` also refuses, with a ValueError, arguments that do not suit the classes; `names` is empty where the data
    set has no class names.
    """

    def register(function: F) -> F:
        _NAMES[function] = rename
        return label_op(function)

    return register


def label_names(steps: Iterable[tuple[Callable[..., Any], dict[str, Any]]], names: Names) -> Names:
    """The names of the classes after the label operations among these steps.

    Args:
      steps: from `preprocess.parse`.
      names: of the classes in the records.

    Raises:
      ValueError: an operation does not suit the classes; names it.
    """
    for function, arguments in steps:
        if function in _NAMES:
            accepted = list(inspect.signature(function).parameters.values())[2:]
            try:
                names = _NAMES[function](names, **{p.name: p.default for p in accepted} | arguments)
            except ValueError as error:
                raise ValueError(f"{function.__name__}: {error}") from None
    return names


def _numbers(count: int) -> Names:
    return tuple(str(i) for i in range(count))


def _checked(label: tf.Tensor, classes: int) -> tf.Tensor:
    """The label as int32, where it is one of so many classes; otherwise the record counts as a bad one."""
    label = tf.cast(label, tf.int32)
    inside = tf.logical_and(label >= 0, label < classes)
    with tf.control_dependencies([tf.debugging.Assert(inside, ["no class has this label:", label])]):
        return tf.identity(label)


def _class_number(features: Features) -> tf.Tensor:
    if features["label"].dtype.is_floating:
        raise ValueError("needs class numbers; the labels are vectors already")
    return features["label"]


def _bucket(value: tf.Tensor, edges: tuple[float, ...]) -> tf.Tensor:
    """Number of the interval (edge, next edge] that holds the value."""
    above = tf.cast(value > tf.constant(edges, tf.float32), tf.int32)
    return _checked(tf.reduce_sum(above) - 1, len(edges) - 1)


# VTAB


@_named(lambda names: tuple(f"{count} objects" for count in range(3, 11)))
def clevr_count(features: Features, context: Context) -> Features:
    """CLEVR: how many objects the scene has, 3 to 10."""
    return {**features, "label": _checked(tf.size(features["objects"]["size"]) - 3, 8)}


@_named(lambda names: ("up to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "above 10"))
def clevr_distance(features: Features, context: Context) -> Features:
    """CLEVR: depth of the nearest object, in six intervals."""
    nearest = tf.reduce_min(features["objects"]["pixel_coords"][:, 2])
    return {**features, "label": _bucket(nearest, (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0))}


@_named(lambda names: ("up to 8 m", "8 to 20 m", "above 20 m", "no vehicle"))
def kitti_distance(features: Features, context: Context) -> Features:
    """KITTI: distance of the nearest car, van or truck, in three intervals; the fourth class is none."""
    kind, depth = features["objects"]["type"], features["objects"]["location"][:, 2]
    none = 1000.0  # metres; further than any
    nearest = tf.minimum(none, tf.reduce_min(tf.where(kind < 3, depth, none)))
    return {**features, "label": _bucket(nearest, (-100.0, 8.0, 20.0, 999.0, 2000.0))}


@label_op
def stretch(features: Features, context: Context, factor: int = 255) -> Features:
    """Multiplies the levels of a PNG by `factor`; dSprites stores black and white as 0 and 1."""
    levels = tf.cast(tf.io.decode_png(features["image"]), tf.int32) * factor
    return {**features, "image": tf.io.encode_png(tf.cast(tf.clip_by_value(levels, 0, 255), tf.uint8))}


# other classes


def _grouped_names(names: Names, groups: int, of: int) -> Names:
    if not 1 <= groups <= of:
        raise ValueError(f"cannot make {groups} groups of {of} classes")
    if names and len(names) != of:
        raise ValueError(f"of = {of}, but there are {len(names)} classes")
    members: list[list[str]] = [[] for _ in range(groups)]
    for number, name in enumerate(names or _numbers(of)):
        members[number * groups // of].append(name)
    return tuple(group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}" for group in members)


@_named(_grouped_names)
def regroup(features: Features, context: Context, groups: int = 1, of: int = 1) -> Features:
    """Merges neighbouring classes: `of` classes become `groups`, label l becomes floor(l * groups / of)."""
    return {**features, "label": _checked(_class_number(features), of) * groups // of}


def _merged_names(names: Names, table: dict[int, int]) -> Names:
    if not all(type(n) is int and n >= 0 for n in (*table, *table.values())) or not table:
        raise ValueError("table must map class numbers to class numbers, for example {0: 0, 1: 0, 2: 1}")
    count = max(table.values()) + 1
    empty = sorted(set(range(count)) - set(table.values()))
    if empty:
        raise ValueError(f"no class becomes class {empty[0]}; number the new classes from 0 without gaps")
    if not names:
        return _numbers(count)
    missing = [i for i in range(len(names)) if i not in table]
    if missing:
        raise ValueError(f"class {missing[0]} ({names[missing[0]]!r}) has no entry in the table")
    if max(table) >= len(names):
        raise ValueError(f"there is no class {max(table)}; there are {len(names)}")
    return tuple(" or ".join(n for i, n in enumerate(names) if table[i] == new) for new in range(count))


@_named(_merged_names)
def lookup(features: Features, context: Context, table: dict = {}) -> Features:  # noqa: B006  never changed
    """Renumbers the classes: `lookup({0: 1, 1: 0, 2: 0})`; classes with the same new number become one."""
    size = max(table) + 1
    label = _checked(_class_number(features), size)
    return {**features, "label": _checked(tf.gather(tf.constant([table.get(i, -1) for i in range(size)]), label), size)}


def _read_names(path: str) -> list[str]:
    try:
        found = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} must hold a JSON list: for each class of the data set, the name of its new class")
    return found


def _names_of_file(names: Names, path: str) -> Names:
    new = _read_names(path)
    if names and len(names) != len(new):
        raise ValueError(f"{path} has {len(new)} entries, but there are {len(names)} classes")
    return tuple(sorted(set(new)))


@_named(_names_of_file)
def lookup_file(features: Features, context: Context, path: str = "") -> Features:
    """Renames the classes by a JSON list, one new name for each old class; equal names become one, sorted by name."""
    new = _read_names(path)
    order = sorted(set(new))
    numbers = tf.constant([order.index(name) for name in new])
    return {**features, "label": tf.gather(numbers, _checked(_class_number(features), len(new)))}


# vectors


def _same_count(names: Names, classes: int, on: float = 1.0, off: float = 0.0) -> Names:
    if classes < 1:
        raise ValueError("needs the number of classes")
    if names and len(names) != classes:
        raise ValueError(f"classes = {classes}, but there are {len(names)}")
    return names or _numbers(classes)


@_named(_same_count)
def onehot(features: Features, context: Context, classes: int = 0, on: float = 1.0, off: float = 0.0) -> Features:
    """The class number as a float32 vector: `on` at the class, `off` elsewhere."""
    label = _checked(_class_number(features), classes)
    return {**features, "label": tf.one_hot(label, classes, on, off, dtype=tf.float32)}


@_named(lambda names, classes, key: _same_count((), classes))
def multihot(features: Features, context: Context, classes: int = 0, key: str = "labels") -> Features:
    """The class numbers in the feature `key`, any number of them, as a float32 vector of zeros and ones."""
    if key not in features:
        raise ValueError(f"the records have no feature {key!r}; they have {', '.join(sorted(features))}")
    found = tf.reshape(tf.cast(features[key], tf.int32), (-1,))
    inside = tf.reduce_all(tf.logical_and(found >= 0, found < classes))
    with tf.control_dependencies([tf.debugging.Assert(inside, ["no class has this label:", found])]):
        marks = tf.reduce_sum(tf.one_hot(found, classes, dtype=tf.float32), axis=0)
    return {**features, "label": tf.minimum(marks, 1.0)}


def _smoothable(names: Names, epsilon: float) -> Names:
    if not 0 <= epsilon < 1:
        raise ValueError("needs 0 <= epsilon < 1")
    return names


@_named(_smoothable)
def smooth(features: Features, context: Context, epsilon: float = 0.1) -> Features:
    """Label smoothing: (1 - `epsilon`) times the vector plus `epsilon` / classes; comes after `onehot`."""
    label = features["label"]
    if not label.dtype.is_floating:
        raise ValueError("smooth needs vectors: put onehot(classes) before it")
    return {**features, "label": label * (1 - epsilon) + epsilon / label.shape[-1]}
