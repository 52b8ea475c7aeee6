"""Weights for use: exporting a trained model, and loading what was trained or exported."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vit_jax.checkpoint.metadata import Metadata
from vit_jax.checkpoint.released import from_released, to_released
from vit_jax.checkpoint.training import read_metadata, read_params
from vit_jax.errors import UserError
from vit_jax.models import Params

CHECKPOINTS = "checkpoints"
EXPORT = "export/model.npz"


@dataclasses.dataclass(frozen=True)
class Weights:
    """A model ready to use.

    Attributes:
      params: nested dicts of arrays on the host; the averaged ones if the run kept an average.
      metadata: what they belong to.
      source: the file or folder they came from.
      averaged: whether they are the average.
    """

    params: Params
    metadata: Metadata
    source: Path
    averaged: bool = False


def export_npz(params: Params, metadata: Metadata, path: Path) -> list[Path]:
    """Writes `path` (released layout, float32) and beside it `<name>.json` with config and label names.

    Both are written under temporary names and renamed, so that no reader sees half a file.

    Args:
      params: arrays that this process can read whole.
      metadata: written beside the weights.
      path: ends in `.npz`.

    Returns:
      The two files.

    Raises:
      UserError: the name is wrong, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"export file {str(path)!r} must end in .npz")
    arrays = to_released(params)
    description = json.dumps(metadata.to_json(), indent=1).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
        _atomically(path.with_suffix(".json"), lambda file: file.write(description))
    except OSError as error:
        raise UserError(f"export file {str(path)!r} cannot be written: {error.strerror}") from None
    return [path, path.with_suffix(".json")]


def _atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_weights(path: str | os.PathLike, step: int | None = None) -> Weights:
    """Loads a workdir, one of its checkpoints, or an exported npz with its json.

    Args:
      path: `w`, `w/checkpoints`, `w/checkpoints/500` or `w/export/model.npz`.
      step: which save of a workdir; by default the newest.

    Raises:
      UserError: there is nothing to load, or it is damaged, truncated or of another model.
    """
    where = Path(path).expanduser()
    if where.suffix == ".npz":
        return _load_npz(where)
    if not where.is_dir():
        raise UserError(f"checkpoint {str(path)!r} does not exist: give a workdir, a checkpoint folder or an .npz file")
    if (where / "metadata").is_dir():
        return _load_save(where)
    folder = where / CHECKPOINTS if (where / CHECKPOINTS).is_dir() else where
    steps = sorted(int(d.name) for d in folder.iterdir() if d.name.isdecimal() and (d / "metadata").is_dir())
    if not steps:
        raise UserError(f"{str(path)!r} holds no complete checkpoint yet: train it first, or name another")
    if step is not None and step not in steps:
        raise UserError(f"{str(path)!r} has no checkpoint of step {step}; it has {steps}")
    return _load_save(folder / str(steps[-1] if step is None else step))


def _load_save(directory: Path) -> Weights:
    found = read_metadata(directory)
    metadata = Metadata.from_json(found, f"checkpoint {directory}")
    item = "ema" if (directory / "ema").is_dir() else "params"
    params = read_params(directory, item, metadata.model.abstract_params)
    return Weights(params, metadata, directory, averaged=item == "ema")


def _load_npz(path: Path) -> Weights:
    beside = path.with_suffix(".json")
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{str(path)!r} has no description {beside.name} beside it, or does not exist") from None
    except ValueError as error:
        raise UserError(f"{str(beside)!r} is not JSON ({error})") from None
    metadata = Metadata.from_json(found, str(beside))
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy and zipfile raise many kinds for a damaged archive, none of them ours
        raise UserError(f"{str(path)!r} is missing, truncated or no npz archive ({error})") from None
    return Weights(from_released(arrays, metadata.model, str(path)), metadata, path)
