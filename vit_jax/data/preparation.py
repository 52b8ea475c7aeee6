"""Getting data sets onto the disk: the only place that may download, and only when asked to."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data.digits import Digits
from vit_jax.data.imagenet21k import Imagenet21k
from vit_jax.data.objectnet import ObjectNet
from vit_jax.errors import BadSetting, UserError

# Builders that TFDS does not have: of data that comes with scikit-learn, and of files that the user has.
EMBEDDED: dict[str, Callable[..., tfds.core.DatasetBuilder]] = {
    "digits": Digits,
    "imagenet21k": Imagenet21k,
    "objectnet": ObjectNet,
}
FROM_FILES = ("imagenet21k", "objectnet")
LEFT_OUT_FILE = "left_out.txt"


def prepare(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> dict[str, int]:
    """Prepares a data set on disk: embedded ones offline, others by TFDS's own download or from the user's files.

    Pictures of `FROM_FILES` sets that cannot be decoded are left out; their names are in `left_out.txt` beside the
    records.

    Args:
      name: of a TFDS data set, or of one of ours.
      data_dir: where to; TFDS's own place by default.
      manual_dir: folder with the files that have to be fetched by hand, for sets that need them.

    Returns:
      {split: number of examples}.

    Raises:
      BadSetting: no such data set.
      UserError: files are missing, or the download or preparation failed.
    """
    builder = _builder(name, data_dir, manual_dir)
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except (OSError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"data set {name!r} could not be prepared in {builder.data_dir}: {reason}") from error
    if getattr(builder, "left_out", None):
        (Path(builder.data_dir) / LEFT_OUT_FILE).write_text("\n".join(builder.left_out) + "\n", encoding="utf-8")
    return {split: info.num_examples for split, info in builder.info.splits.items()}


def _builder(name: str, data_dir: str | None, manual_dir: str | None) -> tfds.core.DatasetBuilder:
    if name in FROM_FILES:
        if manual_dir is None:
            raise UserError(f"{name} is made from files you have: pass --manual_dir=<folder>, see docs/data.md")
        return EMBEDDED[name](manual_dir=manual_dir, data_dir=data_dir, file_format="tfrecord")
    if name in EMBEDDED:
        return EMBEDDED[name](data_dir=data_dir, file_format="tfrecord")
    try:
        return tfds.builder(name, data_dir=data_dir, file_format="tfrecord")
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError):
        raise BadSetting("name", name, "no such TFDS data set, config or version") from None


def prepare_embedded(name: str, data_dir: str | None = None) -> None:
    """Prepares an embedded data set that is not on disk yet; leaves every other alone, and makes no new `data_dir`."""
    tfds.disable_progress_bar()
    if name not in EMBEDDED or name in FROM_FILES or (data_dir and not tf.io.gfile.isdir(data_dir)):
        return
    if not EMBEDDED[name](data_dir=data_dir, file_format="tfrecord").is_prepared():
        prepare(name, data_dir)
