"""Sweep files: a config of one run, and the points that change it, each a whole run with a name of its own."""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vit_jax.config_files import accepts, config_of, key_of, load_config, override, run_config_file, type_at
from vit_jax.errors import UserError
from vit_jax.scaling import hyper
from vit_jax.settings import build, complete, to_dict
from vit_jax.train import RunSettings

RUNS = "runs"  # the folder of all runs in that of a sweep

# How names of runs write keys; others by their last part.
_SHORT = {
    hyper.BASE: "",
    "model.variant": "",
    "train.duration": "",
    "data.task": "",
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
      settings: of the whole run; `init.checkpoint` of a run with a parent is `runs/<parent>`, below the sweep's folder.
      parent: name of the run whose weights it starts from; empty if it starts from no run of the sweep.
    """

    name: str
    overrides: Mapping[str, Any]
    settings: RunSettings
    parent: str = ""


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
    """Reads a sweep file: `get_config()` and `get_hyper(hyper)`, each also with the argument after the colon.

    `get_config` returns the ConfigDict of one run, `get_hyper` the points, see `vit_jax.scaling.hyper`. What a point
    sets also reaches the values that the ConfigDict derives from it by references. The config alone need not make
    sense, with each point it must; where all points name configs of their own, the file needs none.

    Args:
      config: `path.py` or `path.py:argument`; `configs/...` is also found in the installed package.
      flags: `--config.<key>=<value>` for all runs.

    Raises:
      UserError: the file is missing or broken, a point is no run, sets what a flag sets, repeats another, or starts
        from one that is not there; the message names the point.
    """
    return _Reader(config, tuple(flags)).read()


class _Reader:
    """A sweep file on its way to runs."""

    def __init__(self, config: str, flags: tuple[str, ...]):
        self._config, self._flags = config, flags
        self._file, _, argument = config.partition(":")
        self._bases: dict[str, ConfigDict] = {}
        names = run_config_file(config)
        get_config, get_hyper = names.get("get_config"), names.get("get_hyper")
        if not callable(get_hyper):
            raise UserError(f"{self._file} defines no get_hyper(hyper): it is the config of one run; try vit_jax train")
        given = [argument] if argument and accepts(get_hyper, hyper, argument) else []
        if callable(get_config):
            whole = config if argument and (accepts(get_config, argument) or not given) else self._file
            self._bases[""] = self._with_flags(config_of(names, whole))
        elif argument and not given:
            raise UserError(f"--config={config}: {self._file} takes no argument; drop ':{argument}'")
        self._points = self._call(get_hyper, given)
        self._places = {_identity(point): i for i, point in reversed(list(enumerate(self._points)))}
        self._runs: dict[int, SweepRun] = {}

    def _call(self, get_hyper: Any, given: Sequence[str]) -> list[hyper.Point]:
        try:
            return hyper.chainit([get_hyper(hyper, *given)])
        except UserError as error:
            raise UserError(f"{self._file}: {error}") from None
        except Exception as error:
            refused = given and isinstance(error, KeyError | ValueError)
            what = f"get_hyper does not accept {given[0]!r}" if refused else "get_hyper fails"
            raise UserError(f"{self._file}: {what} ({type(error).__name__}: {error})") from error

    def _with_flags(self, config: ConfigDict) -> ConfigDict:
        return override(complete(config, RunSettings, map(key_of, self._flags)), self._flags)

    def read(self) -> Sweep:
        """All points as runs."""
        flagged = {key_of(flag) for flag in self._flags}
        known: dict[str, str] = {}
        for i, point in enumerate(self._points):
            for key in sorted(flagged & set(point)):
                fix = "is part of the sweep, no flag can change it; edit the sweep file"
                raise UserError(f"{self._where(i)}: {key} {fix}")
            run = self._run(i)
            whole = json.dumps(to_dict(run.settings), sort_keys=True)
            if whole in known:
                fix = "drop one, or give it another config.seed"
                raise UserError(f"{self._where(i)} is the same run as {known[whole]}; {fix}")
            known[whole] = run.name
        return Sweep(self._config, self._flags, tuple(self._runs[i] for i in range(len(self._points))))

    def _where(self, i: int) -> str:
        return f"{self._file}: point {i} of {len(self._points)}, {_said(self._points[i])}"

    def _run(self, i: int) -> SweepRun:
        if i not in self._runs:
            overrides = {hyper.full_key(key): value for key, value in self._points[i].items()}
            parent = self._parent(i, overrides.get(hyper.WEIGHTS))
            if parent:
                overrides[hyper.WEIGHTS] = f"{RUNS}/{parent}"
            settings = self._settings(i, overrides)
            self._runs[i] = SweepRun(run_name(overrides, settings), overrides, settings, parent)
        return self._runs[i]

    def _parent(self, i: int, weights: Any) -> str:
        """The name of the run that a point starts from; empty for none."""
        if not isinstance(weights, hyper.WeightsOf):
            return ""
        place = self._places.get(_identity(weights.point))
        if place is None:
            raise UserError(f"{self._where(i)} starts from {_said(weights.point)}, which is no point of the sweep")
        return self._run(place).name

    def _settings(self, i: int, overrides: Mapping[str, Any]) -> RunSettings:
        try:
            config = copy.deepcopy(self._base(overrides.get(hyper.BASE, "")))
            values = {key: value for key, value in overrides.items() if key != hyper.BASE}
            complete(config, RunSettings, values)
            for key, value in values.items():
                _set(config, key.removeprefix("config."), value)
            return build(RunSettings, config)
        except UserError as error:
            raise UserError(f"{self._where(i)}: {error}") from None

    def _base(self, config: str) -> ConfigDict:
        if config not in self._bases:
            if not config:
                raise UserError("names no config to start from, and the file defines no get_config")
            self._bases[config] = self._with_flags(load_config(config))
        return self._bases[config]


def _identity(point: Mapping[str, Any]) -> str:
    """The same for points that set the same, in whatever order."""
    pairs = {
        hyper.full_key(key): _identity(value.point) if isinstance(value, hyper.WeightsOf) else repr(value)
        for key, value in point.items()
    }
    return json.dumps(pairs, sort_keys=True)


def _set(config: ConfigDict, key: str, value: Any) -> None:
    type_at(config, key, value)
    *groups, last = key.split(".")
    for group in groups:
        config = config[group]
    with config.ignore_type():  # `build` checks types by the settings classes
        config[last] = value


def _said(point: Mapping[str, Any]) -> str:
    text = ", ".join(f"{key.removeprefix('config.')}={_value(value)}" for key, value in point.items())
    return text if len(text) <= 120 else f"{text[:119]}…"


def _value(value: Any) -> str:
    return f"weights of ({_said(value.point)})" if isinstance(value, hyper.WeightsOf) else repr(value)


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
        value: Any = overrides[key] if key == hyper.BASE else to_dict(settings)
        for part in () if key == hyper.BASE else key.removeprefix("config.").split("."):
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
    if key == hyper.BASE:
        text = text.removeprefix("configs/").replace(".py", "", 1)
    if key == hyper.WEIGHTS.removeprefix("config.") and text.startswith(f"{RUNS}/"):
        name, text = "from", text.rpartition("_")[2]  # the parent's hash tells it apart
    text = re.sub(r"[^A-Za-z0-9.+-]+", "-", text.replace(" ", "")).strip("-.")
    return name + ("-" if name and (name == "from" or not text[:1].isdigit()) else "") + text
