"""Weights of one model for another: other image size, pooling or classes; and a report of what became of each array."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from vit_jax.checkpoint.positions import resize_grid
from vit_jax.checkpoint.settings import HEADS, METHODS
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import Model, Params
from vit_jax.trees import named_leaves, nested

_FUNCTION = ("gelu", "norm_epsilon", "posemb", "posemb_at", "axial", "registers")


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of each parameter.

    Attributes:
      loaded: as they were in the file.
      reset: at fresh initial values, since the file has none that fit.
      resized: {name: how}.
      ignored: in the file, without use.
      assumed: what the file does not say and was taken to be so.
      changed: settings with which the model now computes something else than it was trained for.
    """

    loaded: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    resized: dict[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For the log: one line for each kind that occurred."""
        kinds = {
            "reset": ", ".join(self.reset),
            "resized": ", ".join(f"{name} ({how})" for name, how in self.resized.items()),
            "ignored": _few(self.ignored),
            "assumed": ", ".join(self.assumed),
            "changed": ", ".join(self.changed),
        }
        return [f"loaded    {len(self.loaded)} parameters"] + [
            f"{kind:<9} {text}" for kind, text in kinds.items() if text
        ]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def adapt(
    params: Params,
    source: Model,
    target: Model,
    *,
    head: str = "keep",
    method: str = "bilinear",
    labels: tuple[Sequence[str], Sequence[str]] = ((), ()),
    seed: int = 0,
) -> tuple[Params, Report]:
    """The parameters of `source` for `target`.

    Position embeddings are resized by their (height, width) grids. A class token and its position are dropped for a
    target without; a target with one that the source lacks starts it fresh. `pre_logits` is dropped or fresh likewise.

    Args:
      params: of the source, on the host.
      source: the model they belong to.
      target: the model they are for.
      head: `keep` the classifier (same number of classes), `reset` it to its initial zeros, or `resize` it: classes of
        the same name keep their weights (without names: of the same number), the others start fresh.
      method: of resizing: `bilinear` with aligned corners, as the released code does, or `bicubic`.
      labels: class names of source and target, for `resize`.
      seed: of fresh values.

    Raises:
      BadSetting, UserError: an option is wrong, or arrays of the two models do not fit.
    """
    for field, value, accepted in (("head", head, HEADS), ("method", method, METHODS)):
        if value not in accepted:
            raise BadSetting(field, value, f"must be one of {', '.join(accepted)}")
    named = {name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}
    resized: dict[str, str] = {}
    named = _positions(named, source, target, method, resized)
    named, reset = _head(named, source, target, head, labels, resized)
    wanted = target.shapes
    optional = ("cls", "mask_token", "pre_logits/kernel", "pre_logits/bias")
    reset += [name for name in optional if name in wanted and name not in named]
    ignored = [name for name in optional if name in named and name not in wanted]
    if not target.classes:
        ignored += [name for name in ("head/kernel", "head/bias") if name in named]
    fits = {name for name in wanted if name in named and named[name].shape == wanted[name]}
    _check(named, wanted, fits | set(reset), ignored)
    fresh = _fresh(target, reset, seed)
    result = {name: fresh[name] if name in reset else named[name] for name in wanted}
    loaded = tuple(name for name in wanted if name not in reset and name not in resized)
    return nested(result), Report(loaded, tuple(reset), resized, tuple(ignored), changed=_changed(source, target))


def _changed(source: Model, target: Model) -> tuple[str, ...]:
    """Settings that no array shows and that make another function of the same arrays."""
    ours, theirs = target.settings, source.settings
    pairs = {name: (getattr(theirs, name), getattr(ours, name)) for name in _FUNCTION}
    pairs["pool"] = (theirs.pooling, ours.pooling)
    return tuple(f"{name} from {old} to {new}" for name, (old, new) in pairs.items() if old != new)


def _check(
    named: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]], settled: set[str], ignored: list[str]
) -> None:
    lacks = [name for name in wanted if name not in settled and name not in named]
    wrong = [
        f"{name} is {named[name].shape}, not {wanted[name]}" for name in wanted if name in named and name not in settled
    ]
    surplus = [name for name in named if name not in wanted and name not in ignored]
    parts = [
        f"{word} {_few(names)}"
        for word, names in (("they lack", lacks), ("they have besides", surplus), ("shapes differ:", wrong))
        if names
    ]
    if parts:
        raise UserError(f"the weights do not fit the model: {'; '.join(parts)}")


def _positions(
    named: dict[str, np.ndarray], source: Model, target: Model, method: str, resized: dict[str, str]
) -> dict[str, np.ndarray]:
    """Tables of positions for the target's grid and class token."""
    old, new = source.grid, target.grid
    grids = {
        "pos_embedding": (old, new),
        "pos_embedding_y": ((old[0], 1), (new[0], 1)),
        "pos_embedding_x": ((1, old[1]), (1, new[1])),
    }
    result = dict(named)
    for name, array in named.items():
        kind = name.removeprefix("positions/")
        if kind == "relative_embedding" and (old, source.tokens) != (new, target.tokens):
            raise UserError(
                f"{name} cannot be resized: offsets between tokens in raster order change meaning with size"
            )
        if kind not in grids:
            continue
        models = (source, target) if kind == "pos_embedding" else ()
        rows = tuple(int(model.settings.has_class_token) for model in models) or (0, 0)
        result[name] = _table(array, *grids[kind], rows, method)
        if how := _how(*grids[kind], rows, method):
            resized[name] = how
    return result


def _table(
    array: np.ndarray, old: tuple[int, int], new: tuple[int, int], rows: tuple[int, ...], method: str
) -> np.ndarray:
    """(..., cls + n, d) -> the same for the new grid; the class token's row, of which `rows` tells, is kept, dropped
    or zero."""
    before, after = rows
    front, grid = array[..., :before, :], array[..., before:, :]
    if after > before:
        front = np.zeros((*array.shape[:-2], 1, array.shape[-1]), array.dtype)
    moved = np.stack([resize_grid(table, old, new, method) for table in grid.reshape(-1, *grid.shape[-2:])])
    return np.concatenate([front[..., :after, :], moved.reshape(*grid.shape[:-2], *moved.shape[-2:])], axis=-2)


def _how(old: tuple[int, int], new: tuple[int, int], rows: tuple[int, ...], method: str) -> str:
    """What `_table` does, for the report; empty if it changes nothing."""
    parts = [f"{old[0]}x{old[1]} to {new[0]}x{new[1]}, {method}"] if old != new else []
    before, after = rows
    if before != after:
        parts.append("without the class token's row" if before else "with a row of zeros for the class token")
    return ", ".join(parts)


def _head(
    named: dict[str, np.ndarray],
    source: Model,
    target: Model,
    head: str,
    labels: tuple[Sequence[str], Sequence[str]],
    resized: dict[str, str],
) -> tuple[dict[str, np.ndarray], list[str]]:
    names = ["head/kernel", "head/bias"]
    if not target.classes:
        return named, []
    if head == "reset" or not source.classes:
        return {name: array for name, array in named.items() if name not in names}, names
    if source.settings.pre_logits != target.settings.pre_logits:
        raise BadSetting("head", head, "the classifier was trained on features of another kind (pre_logits): reset it")
    if head == "keep":
        if source.classes != target.classes:
            fix = f"the file's has {source.classes} classes and the model {target.classes}: use reset or resize"
            raise BadSetting("head", head, fix)
        return named, []
    places = _same_classes(labels, source.classes, target.classes)
    result = dict(named)
    for name in names:
        start = target.settings.head_bias if name == "head/bias" else 0.0
        result[name] = np.full((*named[name].shape[:-1], target.classes), start, np.float32)
        for new, old in places.items():
            result[name][..., new] = named[name][..., old]
        resized[name] = f"{len(places)} of {target.classes} classes kept"
    return result, []


def _same_classes(labels: tuple[Sequence[str], Sequence[str]], old: int, new: int) -> dict[int, int]:
    """{class of the target: class of the source}."""
    theirs, ours = labels
    if not theirs or not ours:
        return {i: i for i in range(min(old, new))}
    if (len(theirs), len(ours)) != (old, new):
        raise UserError(f"there are {len(theirs)} and {len(ours)} class names for {old} and {new} classes")
    places: dict[str, list[int]] = {}
    for i, label in enumerate(theirs):
        places.setdefault(label, []).append(i)
    # ImageNet has two cranes: the first stays the first.
    return {i: places[label].pop(0) for i, label in enumerate(ours) if places.get(label)}


def _fresh(target: Model, names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Initial values of some parameters; the others are not computed."""
    if not names:
        return {}

    def some(key: jax.Array) -> dict[str, jax.Array]:
        every = named_leaves(target.init(key))
        return {name: every[name] for name in names}

    return {name: np.asarray(array) for name, array in jax.jit(some)(jax.random.key(seed)).items()}
