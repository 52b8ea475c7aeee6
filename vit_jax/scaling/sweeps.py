"""Sweep files: a config of one run, and the points that change it, each a whole run with a name of its own."""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vit_jax.config_files import load_config_file, override, type_at
from vit_jax.errors import BadSetting, UserError
from vit_jax.scaling import hyper
from vit_jax.settings import build, complete, to_dict
from vit_jax.train import RunSettings

# How names of runs write keys; others by their last part.
_SHORT = {
    "model.variant": "",
    "train.duration": "",
    "data.name": "",
    "train.batch_size": "batch",
    "schedule.learning_rate": "lr",
    "optimizer.weight_decay": "wd",
}
_READABLE = 60  # characters of a name before its hash


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One point of a sweep.

    Attributes:
      name: of the run and its folder, see `run_name`.
      overrides: what the point sets, {"config.model.variant": "B/16", ...}.
      settings: of the whole run.
    """

    name: str
    overrides: Mapping[str, Any]
    settings: RunSettings


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep file that is known to make sense.

    Attributes:
      config: the file, and its argument, as given.
      flags: `--config.<key>=<value>` that hold for all runs.
      runs: in the order of the file.
    """

    config: str
    flags: tuple[str, ...]
    runs: tuple[SweepRun, ...]


def load_sweep(config: str, flags: Sequence[str] = ()) -> Sweep:
    """Reads a sweep file: `get_config()` or `get_config(argument)`, and `get_hyper(hyper)`.

    `get_config` returns the ConfigDict of one run, `get_hyper` the points, see `vit_jax.scaling.hyper`. What a point
    sets also reaches the values that the ConfigDict derives from it by references. The config alone need not make
    sense; with each point it must.

    Args:
      config: `path.py` or `path.py:argument`; `configs/...` is also found in the installed package.
      flags: `--config.<key>=<value>` for all runs.

    Raises:
      UserError: the file is missing or broken, a point is no run, sets what a flag sets, or repeats another; the
        message names the point.
    """
    base, names = load_config_file(config)
    file = config.partition(":")[0]
    base = override(complete(base, RunSettings), flags)
    points = _points(file, names.get("get_hyper"))
    flagged = {"config." + re.sub(r"^--(no)?config\.|=.*", "", flag, flags=re.DOTALL) for flag in flags}
    runs: dict[RunSettings, SweepRun] = {}
    for i, point in enumerate(points):
        where = f"{file}: point {i} of {len(points)}, {_said(point)}"
        for key in sorted(flagged & set(point)):
            raise UserError(f"{where}: {key} is part of the sweep, no flag can change it; edit the sweep file")
        run = _run(base, point, where)
        if run.settings in runs:
            same = runs[run.settings].name
            raise UserError(f"{where} is the same run as {same}; drop one, or give it another config.seed")
        runs[run.settings] = run
    return Sweep(config, tuple(flags), tuple(runs.values()))


def _points(file: str, get_hyper: Any) -> list[hyper.Point]:
    """What `get_hyper` of a sweep file returns."""
    if not callable(get_hyper):
        raise UserError(f"{file} defines no get_hyper(hyper): it is the config of one run; try vit_jax train")
    try:
        points = hyper.chainit([get_hyper(hyper)])
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except Exception as error:
        raise UserError(f"{file}: get_hyper fails ({type(error).__name__}: {error})") from error
    return points


def _run(base: ConfigDict, point: hyper.Point, where: str) -> SweepRun:
    config = copy.deepcopy(base)
    overrides = {hyper.full_key(key): value for key, value in point.items()}
    try:
        for key, value in overrides.items():
            _set(config, key.removeprefix("config."), value)
        settings = build(RunSettings, config)
    except BadSetting as error:
        raise UserError(f"{where}: {error}") from None
    return SweepRun(run_name(overrides, settings), overrides, settings)


def _set(config: ConfigDict, key: str, value: Any) -> None:
    type_at(config, key, value)
    *groups, last = key.split(".")
    for group in groups:
        config = config[group]
    with config.ignore_type():  # `build` checks types by the settings classes
        config[last] = value


def _said(point: hyper.Point) -> str:
    text = ", ".join(f"{key.removeprefix('config.')}={value!r}" for key, value in point.items())
    return text if len(text) <= 120 else f"{text[:119]}…"


def run_name(overrides: Mapping[str, Any], settings: RunSettings) -> str:
    """A short name that depends on nothing but what the point sets: `B-16_7epochs_lr0.0008_5c01fe2a`.

    It is readable, safe in file systems, the same in whatever order keys and points are written and whatever other
    points there are. The hash at its end tells apart what the readable part writes alike.

    Args:
      overrides: of the point.
      settings: of its run; values are read there, so that 1 and 1.0 give one name.
    """
    values = {}
    for key in overrides:
        value: Any = to_dict(settings)
        for part in key.removeprefix("config.").split("."):
            value = value[part]
        values[key.removeprefix("config.")] = value
    order = sorted(values, key=lambda key: (key not in _SHORT, list(_SHORT).index(key) if key in _SHORT else 0, key))
    readable = "_".join(_written(key, values[key]) for key in order).strip("_-.") or "base"
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return f"{readable[:_READABLE].rstrip('_-.')}_{digest[:8]}"


def _written(key: str, value: Any) -> str:
    name = _SHORT.get(key, key.rpartition(".")[2])
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        text = "x".join(map(str, value))
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = str(value)
    text = re.sub(r"[^A-Za-z0-9.+-]+", "-", text.replace(" ", "")).strip("-.")
    return name + ("-" if name and not text[:1].isdigit() else "") + text
