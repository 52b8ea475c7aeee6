"""The folder of a sweep: what whoever runs it writes there, and what it says when it is read back.

    <workdir>/sweep.json                     the sweep file, flags, and for each run: name, what its point sets, the
                                             resolved settings, the cost
    <workdir>/runs/<name>/                   an ordinary workdir of `vit_jax train`
    <workdir>/runs/<name>/attempts.jsonl     a line for each time the run ended: seconds, exit status, error, devices
    <workdir>/report/                        what `vit_jax report` writes

What became of a run is read from its workdir: it is `done` when its weights are exported, which training does last;
otherwise `failed` when its last attempt ended with an error, `unfinished` when it has begun, and `waiting`. A process
that is killed leaves no line in attempts.jsonl and needs none. Only the runner adds lines, and it never removes one.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax.checkpoint import EXPORT
from vit_jax.errors import EXIT_OK, EXIT_RESUMABLE, UserError
from vit_jax.scaling.costs import RunCost
from vit_jax.scaling.sweeps import Sweep
from vit_jax.settings import build, to_dict
from vit_jax.train import METRICS_FILE

SWEEP_FILE = "sweep.json"
RUNS = "runs"
ATTEMPTS_FILE = "attempts.jsonl"
_VERSION = 1

_ACCURACY = re.compile(r"(.+)/accuracy")
_FEW_SHOT = re.compile(r"(.+)/([0-9]+)_shot")


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One time a run was started and ended.

    Attributes:
      seconds: from start to end.
      status: exit status, as in `vit_jax.errors`.
      error: one line; empty if all went well.
      devices: that JAX used; on TPU v2 and v3 a device is a core, else a chip.
      device_kind: as JAX names them.
    """

    seconds: float
    status: int
    error: str = ""
    devices: int = 1
    device_kind: str = ""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A run as far as it came.

    Attributes:
      cost: its name, model and price.
      overrides: what its point of the sweep sets.
      status: `done`, `failed`, `unfinished` or `waiting`.
      step: the last one that is recorded.
      error: of the last attempt, if it failed.
      scores: newest accuracy in percent by evaluation: from the records `<evaluation>/accuracy`.
      few_shot: newest accuracy in percent by (evaluation, shots): from the records `<evaluation>/<n>_shot`.
      seconds: of all attempts; None if none is recorded.
      device_days: devices times days of all attempts, likewise.
      records: of its metrics file.
    """

    cost: RunCost
    overrides: Mapping[str, Any]
    status: str
    step: int = 0
    error: str = ""
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    few_shot: Mapping[tuple[str, int], float] = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    device_days: float | None = None
    records: Sequence[Mapping[str, Any]] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """A sweep's folder, read.

    Attributes:
      config: the sweep file and its argument.
      runs: in the order of the sweep.
    """

    config: str
    runs: tuple[RunResult, ...]


def run_folder(workdir: str | Path, name: str) -> Path:
    """The workdir of the run of this name."""
    return Path(workdir) / RUNS / name


def save_sweep(workdir: str | Path, sweep: Sweep, costs: Sequence[RunCost]) -> Path:
    """Writes `sweep.json`; a sweep that has begun may only grow.

    Args:
      workdir: of the sweep, created if missing.
      sweep: from `load_sweep`.
      costs: of its runs, from `describe_sweep`.

    Raises:
      UserError: the folder holds another sweep, one of whose runs is gone or has other settings now.
    """
    folder = Path(workdir)
    path = folder / SWEEP_FILE
    runs = [
        {"name": r.name, "overrides": dict(r.overrides), "settings": to_dict(r.settings), "cost": dataclasses.asdict(c)}
        for r, c in zip(sweep.runs, costs, strict=True)
    ]
    if path.exists():
        _check_grown(folder, _read(path)["runs"], runs)
    found = {"version": _VERSION, "config": sweep.config, "flags": list(sweep.flags), "runs": runs}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"workdir {str(workdir)!r} cannot be written: {error.strerror}") from None
    return path


def record_attempt(folder: Path, attempt: Attempt) -> None:
    """Adds a line to the attempts of the run in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ATTEMPTS_FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(attempt)) + "\n")


def read_study(workdir: str | Path) -> Study:
    """Reads the folder of a sweep that waits, runs or is done.

    Raises:
      UserError: it is not the folder of a sweep, or its `sweep.json` is damaged.
    """
    path = Path(workdir) / SWEEP_FILE
    if not path.is_file():
        raise UserError(f"--workdir={workdir}: holds no {SWEEP_FILE}, so it is not the folder of a sweep")
    found = _read(path)
    runs = []
    for run in found["runs"]:
        cost = build(RunCost, run["cost"], f"{path}: cost")
        runs.append(_read_run(run_folder(workdir, run["name"]), cost, run["overrides"]))
    return Study(found["config"], tuple(runs))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["version"]
        known = {"config", "flags", "runs"} <= set(found)
        known &= all({"name", "overrides", "settings", "cost"} <= set(run) for run in found["runs"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not the description of a sweep ({type(error).__name__}: {error})") from None
    if version != _VERSION or not known:
        raise UserError(f"{path} has version {version} or lacks something; this vit_jax reads version {_VERSION}")
    return found


def _check_grown(folder: Path, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    now = {run["name"]: run for run in json.loads(json.dumps(new))}
    for run in old:
        start = f"workdir {str(folder)!r} was started with another sweep: run {run['name']}"
        if run["name"] not in now:
            raise UserError(f"{start} is gone; choose another --workdir, or put its point back")
        settings = now[run["name"]]["settings"]
        for key, (before, after) in _differences(run["settings"], settings):
            raise UserError(f"{start} had {key} = {before!r} and has {after!r} now; choose another --workdir")


def _differences(before: Any, after: Any, path: str = "config") -> Iterator[tuple[str, tuple[Any, Any]]]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield path, (before, after)
        return
    for key in sorted(before.keys() | after.keys()):
        yield from _differences(before.get(key), after.get(key), f"{path}.{key}")


def _read_run(folder: Path, cost: RunCost, overrides: Mapping[str, Any]) -> RunResult:
    records, attempts = _lines(folder / METRICS_FILE), _lines(folder / ATTEMPTS_FILE)
    last: dict[str, Any] = attempts[-1] if attempts else {"status": EXIT_OK, "error": ""}
    if (folder / EXPORT).with_suffix(".json").is_file():
        status = "done"
    elif last["status"] not in (EXIT_OK, EXIT_RESUMABLE):
        status = "failed"
    else:
        status = "unfinished" if records or folder.is_dir() else "waiting"
    newest = {key: value for record in records for key, value in record.items() if is_number(value)}
    accuracies = [(_ACCURACY.fullmatch(key), value) for key, value in newest.items()]
    shots = [(_FEW_SHOT.fullmatch(key), value) for key, value in newest.items()]
    return RunResult(
        cost=cost,
        overrides=overrides,
        status=status,
        step=max((record.get("step", 0) for record in records), default=0),
        error=last["error"] if status == "failed" else "",
        scores={match[1]: 100 * value for match, value in accuracies if match},
        few_shot={(match[1], int(match[2])): 100 * value for match, value in shots if match},
        seconds=sum(a["seconds"] for a in attempts) if attempts else None,
        device_days=sum(a["seconds"] * a["devices"] for a in attempts) / 86_400 if attempts else None,
        records=records,
    )


def is_number(value: Any) -> bool:
    """Whether a recorded value is a finite number: others are written as words."""
    return isinstance(value, int | float) and math.isfinite(value)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file that may be growing while we read: half a line at its end is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append({**json.loads(line)})
        except (ValueError, TypeError):
            continue
    return records
