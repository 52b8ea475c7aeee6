"""Writing weights in the layouts of the npz files that Google released."""

import json
from pathlib import Path

import numpy as np

from vit_jax.checkpoint.card import NPZ, write_card, write_preprocessing
from vit_jax.checkpoint.files import atomically, new_folder
from vit_jax.checkpoint.layouts import Layout, bit, google, to_file
from vit_jax.checkpoint.metadata import Metadata
from vit_jax.errors import UserError
from vit_jax.models import Model, Params

EXPORT = "export/model.npz"


def npz_layout(model: Model) -> Layout:
    """The released layout for this kind of model: BiT's for pre-activation ResNets, the ViTs' for all others."""
    resolved = model.settings.resolved
    is_bit = resolved.encoder is None and resolved.trunk is not None and resolved.trunk.version == 2
    return bit.LAYOUT if is_bit else google.LAYOUT


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
        raise UserError(f"export file {str(path)!r} must end in .npz, or be a new folder")
    layout = npz_layout(metadata.model)
    arrays = {name: np.asarray(array, np.float32) for name, array in to_file(params, layout.rules).items()}
    description = json.dumps(metadata.to_json(), indent=1).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
        atomically(path.with_suffix(".json"), lambda file: file.write(description))
    except OSError as error:
        raise UserError(f"export file {str(path)!r} cannot be written: {error.strerror}") from None
    return [path, path.with_suffix(".json")]


def export_npz_folder(params: Params, metadata: Metadata, path: Path) -> list[Path]:
    """Writes a folder with `model.npz`, `model.json`, the pre-processing the weights expect, and a model card.

    Args:
      params: arrays that this process can read whole.
      metadata: of the model.
      path: a folder that is empty or does not exist; `<name>.npz` is written by `export_npz` alone.

    Returns:
      The written files.

    Raises:
      UserError: the folder is not empty, or cannot be written.
    """
    path = Path(path)
    if path.suffix[1:].isalpha():  # not that of a folder such as `model-1.0`
        return export_npz(params, metadata, path)
    with new_folder(path) as folder:
        files = export_npz(params, metadata, folder / "model.npz")
        write_preprocessing(folder, metadata)
        write_card(folder, metadata, files, NPZ)
    return sorted(path.iterdir())
