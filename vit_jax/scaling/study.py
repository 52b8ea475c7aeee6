"""The folder of a sweep: what whoever runs it writes there, and what it says when it is read back.

    <workdir>/sweep.json                     the sweep file, flags, and for each run: name, what its point sets, the
                                             resolved settings, the cost
    <workdir>/runs/<name>/                   an ordinary workdir of `vit_jax train`
    <workdir>/runs/<name>/attempts.jsonl     a line for each time the run ended: seconds, exit status, error, devices
    <workdir>/report/                        what `vit_jax report` writes

What became of a run is read from its workdir: it is `done` when its weights are exported, which training does last;
otherwise `running` while a process has the lock of its folder, `failed` when its last attempt ended with an error,
`unfinished` when it has begun, and `waiting`. A process that is killed leaves no line in attempts.jsonl and needs none.
Only the runner adds lines, and it never removes one.
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
from vit_jax.folder_lock import FolderLock, lock_holder
from vit_jax.scaling.costs import RunCost
from vit_jax.scaling.sweeps import RUNS, Sweep
from vit_jax.settings import build, to_dict
from vit_jax.train import METRICS_FILE, RunSettings

SWEEP_FILE = "sweep.json"
SWEEP_LOCK = "sweep.lock"
ATTEMPTS_FILE = "attempts.jsonl"
_VERSION = 1

# Settings that may change while a sweep goes on: where its runs run and what they report, never what they compute.
FREE = re.compile(
    r"config\.(mesh\..*|log\..*|inspect\..*|checkpoint\..*|evaluate\.(every|batch_size)|evaluators\.\w+\.every"
    r"|data\.(data_dir|prefetch|threads)|model\.(scan|remat|attention))"
)

# `mean` is that over the tasks of VTAB.
_ACCURACY = re.compile(r"(.+)/(accuracy|mean)")
_FEW_SHOT = re.compile(r"(.+)/([0-9]+)_shot(?:/mean)?")
_SPEED = re.compile(r"(.+)/(images_per_second|batch|largest)")


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One time a run was started and ended.

    Attributes:
      seconds: from start to end.
      status: exit status, as in `vit_jax.errors`.
      error: one line; empty if all went well.
      devices: that JAX used; on TPU v2 and v3 a device is a core, else a chip.
      device_kind: as JAX names them.
      together: runs that were trained at once, as one program, and share the time.
    """

    seconds: float
    status: int
    error: str = ""
    devices: int = 1
    device_kind: str = ""
    together: int = 1


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A run as far as it came.

    Attributes:
      cost: its name, model and price.
      overrides: what its point of the sweep sets.
      status: `done`, `running`, `failed`, `unfinished` or `waiting`.
      step: the last one that is recorded.
      error: of the last attempt, if it failed.
      exit_status: of the last attempt; 0 if there is none.
      scores: newest accuracy in percent by evaluation: from the records `<evaluation>/accuracy`; `eval` is on the run's
        own data, tests of the classifier on a task of the catalog have that task's name.
      few_shot: newest accuracy in percent by (evaluation, shots): from the records `<evaluation>/<n>_shot`.
      speed: newest numbers of an evaluator of this kind by (evaluation, what): `images_per_second`, `batch`, `largest`.
      seconds: of all attempts, the run's share where several were trained at once; None if none is recorded.
      device_days: devices times days of all attempts, likewise.
      records: of its metrics file.
    """

    cost: RunCost
    overrides: Mapping[str, Any]
    status: str
    step: int = 0
    error: str = ""
    exit_status: int = EXIT_OK
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    few_shot: Mapping[tuple[str, int], float] = dataclasses.field(default_factory=dict)
    speed: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)
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
    found = {"version": _VERSION, "config": sweep.config, "flags": list(sweep.flags), "runs": runs}
    try:
        with FolderLock(folder, SWEEP_LOCK):
            known_costs(workdir, sweep)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"workdir {str(workdir)!r} cannot be written: {error.strerror}") from None
    return path


def known_costs(workdir: str | Path, sweep: Sweep) -> dict[str, RunCost]:
    """Prices by name of the runs that `sweep.json` has already; none where nothing was saved yet.

    Raises:
      UserError: the folder holds another sweep, one of whose runs is gone or has other settings now.
    """
    path = Path(workdir) / SWEEP_FILE
    if not path.is_file():
        return {}
    old, now = _read(path)["runs"], {run.name: run.settings for run in sweep.runs}
    gone = [run["name"] for run in old if run["name"] not in now]
    start = f"workdir {str(workdir)!r} was started with another sweep"
    if gone:
        new = set(now) - {run["name"] for run in old}
        rest = f" and {len(gone) - 1} more are" if gone[1:] else " is"
        added = f", and {min(new)} is new" if new else ""
        raise UserError(f"{start}: run {gone[0]}{rest} gone{added}; choose another --workdir, or put it back")
    for run in old:
        changed = _differences(_today(run["settings"]), to_dict(now[run["name"]]))
        for key, (before, after) in changed:
            fix = "choose another --workdir"
            raise UserError(f"{start}: run {run['name']} had {key} = {before!r} and has {after!r} now; {fix}")
    return {run["name"]: _cost(run, path) for run in old}


def _today(settings: dict[str, Any]) -> dict[str, Any]:
    """Saved settings with the defaults of what was not known then."""
    try:
        return to_dict(build(RunSettings, settings))
    except UserError:  # a setting that no longer exists: the comparison names it
        return settings


def _cost(run: Mapping[str, Any], path: Path) -> RunCost:
    return build(RunCost, run["cost"], f"{path}: cost")


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
    runs = [_read_run(run_folder(workdir, run["name"]), _cost(run, path), run) for run in found["runs"]]
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


def _differences(before: Any, after: Any, path: str = "config") -> Iterator[tuple[str, tuple[Any, Any]]]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after and not FREE.fullmatch(path):
            yield path, (before, after)
        return
    for key in sorted(before.keys() | after.keys()):
        yield from _differences(before.get(key), after.get(key), f"{path}.{key}")


def run_status(folder: Path) -> tuple[str, Attempt | None]:
    """(status of the run in `folder`, as in `RunResult`; its last recorded attempt)."""
    attempts = _attempts(folder)
    last = attempts[-1] if attempts else None
    if (folder / EXPORT).with_suffix(".json").is_file():
        return "done", last
    if lock_holder(folder):
        return "running", last
    if last and last.status not in (EXIT_OK, EXIT_RESUMABLE):
        return "failed", last
    return "unfinished" if last or (folder / METRICS_FILE).is_file() else "waiting", last


def _attempts(folder: Path) -> list[Attempt]:
    known = {field.name for field in dataclasses.fields(Attempt)}
    lines = _lines(folder / ATTEMPTS_FILE)
    return [Attempt(**{key: value for key, value in line.items() if key in known}) for line in lines]


def _read_run(folder: Path, cost: RunCost, run: Mapping[str, Any]) -> RunResult:
    status, last = run_status(folder)
    records, attempts = _lines(folder / METRICS_FILE), _attempts(folder)
    newest = {key: value for record in records for key, value in record.items() if is_number(value)}
    shares = [(a.seconds / a.together, a.devices) for a in attempts]
    return RunResult(
        cost=cost,
        overrides=run["overrides"],
        status=status,
        step=max((record.get("step", 0) for record in records), default=0),
        error=last.error if last and status == "failed" else "",
        exit_status=last.status if last else EXIT_OK,
        scores={_evaluation(name, run): 100 * value for (name, _), value in _named(_ACCURACY, newest).items()},
        few_shot={(name, int(shots)): 100 * value for (name, shots), value in _named(_FEW_SHOT, newest).items()},
        speed=_named(_SPEED, newest),
        seconds=sum(seconds for seconds, _ in shares) if attempts else None,
        device_days=sum(seconds * devices for seconds, devices in shares) / 86_400 if attempts else None,
        records=records,
    )


def _named(pattern: re.Pattern[str], values: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """{(evaluation, what): value} of the metrics that a pattern matches."""
    found = {pattern.fullmatch(key): value for key, value in values.items()}
    return {(match[1], match[2]): value for match, value in found.items() if match}


def _evaluation(name: str, run: Mapping[str, Any]) -> str:
    """What an evaluation is called: by its task, where it tests the model's own classifier on one of the catalog."""
    about = run["settings"].get("evaluators", {}).get(name, {})
    return about.get("task") or name if about.get("kind") == "classification" else name


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
