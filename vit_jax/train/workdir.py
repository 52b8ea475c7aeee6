"""A workdir belongs to one config: the first run writes it down, later runs compare."""

import json
import os
from itertools import zip_longest
from pathlib import Path
from typing import Any

from vit_jax import parallel
from vit_jax.checkpoint import CHECKPOINTS, Metadata, check_same_shapes
from vit_jax.errors import UserError
from vit_jax.settings import build, to_dict
from vit_jax.train.settings import RunSettings
from vit_jax.train.writers import METRICS_FILE

CONFIG_FILE = "config.json"

# What may change when a run goes on: where it runs and what it reports, never what it computes.
FREE = (
    "mesh.",
    "log.",
    "checkpoint.",
    "evaluate.",
    "evaluators.",
    "inspect.",
    "data.data_dir",
    "data.prefetch",
    "model.scan",
    "model.remat",
)


def claim(workdir: str | Path, settings: RunSettings, accept_change: bool = False) -> Path:
    """Writes the config into a new workdir, or checks that an existing one was started with the same.

    Only the main process looks and writes; the others check the result with `check_shared`.

    Args:
      workdir: created if missing.
      settings: of this run.
      accept_change: go on with a changed config; the old one is kept as `config.<n>.json`.

    Returns:
      The absolute path.

    Raises:
      UserError: the workdir belongs to a different config, cannot be written, or is no local folder.
    """
    if "://" in str(workdir):
        fix = "must be a folder: mount the bucket (gcsfuse) on every host and give its path"
        raise UserError(f"--workdir={workdir}: {fix}")
    folder = Path(workdir).absolute()
    if not parallel.is_main():
        return folder
    path = folder / CONFIG_FILE
    if path.exists():
        changed = differences(_read(path), settings)
        if changed and not accept_change:
            raise UserError(f"workdir {str(workdir)!r} was started with a different config: {_complaint(changed)}")
        if changed:
            os.replace(path, folder / f"config.{len(list(folder.glob('config.*.json')))}.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(to_dict(settings), indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"workdir {str(workdir)!r} cannot be written: {error.strerror}") from None
    return folder


def release(workdir: Path) -> None:
    """Gives back a workdir in which nothing was saved or recorded: the next run there may have another config."""
    stem, suffix = Path(METRICS_FILE).stem, Path(METRICS_FILE).suffix
    recorded = any(file.stat().st_size for file in workdir.glob(f"{stem}*{suffix}"))  # of earlier runs, too
    if parallel.is_main() and not recorded and not any((workdir / CHECKPOINTS).glob("[0-9]*")):
        (workdir / CONFIG_FILE).unlink(missing_ok=True)


def check_shared(workdir: Path, settings: RunSettings) -> None:
    """Raises UserError when this process does not see the config that the main process just wrote."""
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise UserError(f"workdir {str(workdir)!r} is not the same folder on every host: put it on a shared disk")
    changed = differences(_read(path), settings)
    if changed:
        raise UserError(f"the processes of this job were started with different configs: {changed[0]}")


def check_same_run(found: dict[str, Any], metadata: Metadata, where: str) -> None:
    """Raises UserError when a checkpoint holds another model, or was written by another config or from other data.

    Args:
      found: its description, as `Metadata.to_json` made it.
      metadata: of this run.
      where: names the checkpoint.
    """
    check_same_shapes(found["model"]["shapes"], metadata.model.shapes, where)
    changed = differences(found["config"], build(RunSettings, metadata.config))
    if changed:
        raise UserError(f"{where} was written by a different config: {_complaint(changed)}")
    before, now = found["data"]["train_examples"], metadata.data_position["train_examples"]
    if before != now:
        changed = [f"the training split had {before} examples and has {now}"]
    elif tuple(found["label_names"]) != metadata.label_names:
        pairs = zip_longest(found["label_names"], metadata.label_names)
        changed = [f"class {i} was {a!r} and is {b!r}" for i, (a, b) in enumerate(pairs) if a != b]
    if changed:
        raise UserError(f"{where} was trained on other data: {_complaint(changed)}")


def _complaint(changed: list[str]) -> str:
    shown = "; ".join(changed[:3]) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")
    return f"{shown}; choose another --workdir, or pass --accept_config_change to go on all the same"


def _read(path: Path) -> dict[str, Any]:
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a config ({error}): restore it or choose another --workdir") from None


def differences(old: dict[str, Any], settings: RunSettings) -> list[str]:
    """`config.a.b was 1 and is 2` for every value that must not change in a run.

    Keys that an older version did not know count as their defaults.
    """
    before, after = _flat(to_dict(build(RunSettings, old))), _flat(to_dict(settings))
    return [
        f"config.{key} was {before[key]!r} and is {after[key]!r}"
        for key in sorted(before)
        if before[key] != after[key] and not key.startswith(FREE)
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
