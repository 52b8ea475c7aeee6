"""Getting data sets onto the disk: the only place that may download, and only when asked to."""

import tensorflow_datasets as tfds

from vit_jax.data.digits import Digits
from vit_jax.errors import BadSetting, UserError

EMBEDDED: dict[str, type[tfds.core.DatasetBuilder]] = {"digits": Digits}


def prepare(name: str, data_dir: str | None = None) -> dict[str, int]:
    """Prepares a data set on disk: embedded ones offline, others by TFDS's own download.

    Returns:
      {split: number of examples}.

    Raises:
      BadSetting: no such data set.
      UserError: the download or preparation failed.
    """
    if name in EMBEDDED:
        builder = EMBEDDED[name](data_dir=data_dir, file_format="tfrecord")
    else:
        try:
            builder = tfds.builder(name, data_dir=data_dir, file_format="tfrecord")
        except (tfds.core.DatasetNotFoundError, ValueError, AssertionError):
            raise BadSetting("name", name, "no such TFDS data set, config or version") from None
    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"data set {name!r} could not be prepared in {builder.data_dir}: {reason}") from error
    return {split: info.num_examples for split, info in builder.info.splits.items()}


def prepare_embedded(name: str, data_dir: str | None = None) -> None:
    """Prepares an embedded data set that is not on disk yet; leaves every other alone."""
    tfds.disable_progress_bar()
    if name in EMBEDDED and not EMBEDDED[name](data_dir=data_dir, file_format="tfrecord").is_prepared():
        prepare(name, data_dir)
