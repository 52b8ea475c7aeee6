"""A workdir belongs to one config: the first run writes it down, later runs compare."""

import json
import os
from pathlib import Path
from typing import Any

from vit_jax import parallel
from vit_jax.errors import UserError
from vit_jax.settings import to_dict
from vit_jax.train.settings import RunSettings

CONFIG_FILE = "config.json"

# What may change when a run goes on: where it runs and what it reports, never what it computes.
FREE = (
    "mesh.",
    "log.",
    "checkpoint.",
    "evaluate.",
    "data.data_dir",
    "data.prefetch",
    "model.scan",
    "model.remat",
)


def claim(workdir: Path, settings: RunSettings, accept_change: bool = False) -> None:
    """Writes the config into a new workdir, or checks that an existing one was started with the same.

    Args:
      workdir: created if missing.
      settings: of this run.
      accept_change: go on with a changed config; the old one is kept as `config.<n>.json`.

    Raises:
      UserError: the workdir belongs to a different config, or cannot be written.
    """
    path = workdir / CONFIG_FILE
    new = to_dict(settings)
    if path.exists():
        changed = differences(_read(path), new)
        if changed and not accept_change:
            shown = "; ".join(changed[:3]) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")
            fix = "choose another --workdir, or pass --accept_config_change to go on with the new values"
            raise UserError(f"workdir {str(workdir)!r} was started with a different config: {shown}; {fix}")
        if changed and parallel.is_main():
            number = len(list(workdir.glob("config.*.json")))
            os.replace(path, workdir / f"config.{number}.json")
    if not parallel.is_main():
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"workdir {str(workdir)!r} cannot be written: {error.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a config ({error}): restore it or choose another --workdir") from None


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`config.a.b was 1 and is 2` for every value that must not change in a run."""
    before, after = _flat(old), _flat(new)
    return [
        f"config.{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not key.startswith(FREE)
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
