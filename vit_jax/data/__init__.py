"""Records -> batches. The only room that imports TensorFlow, and only when a data set with files is opened."""

import importlib
import os
from typing import TYPE_CHECKING

import numpy as np

from vit_jax.data.cache import cache_dir
from vit_jax.data.dataset import Batch, Dataset, SyntheticDataset
from vit_jax.data.order import permute, train_indices
from vit_jax.data.settings import RESIZE_SMALL_RATIO, DataSettings
from vit_jax.data.sizes import known_size
from vit_jax.errors import BadSetting, UserError

if TYPE_CHECKING:
    import types

__all__ = [
    "RESIZE_SMALL_RATIO",
    "Batch",
    "DataSettings",
    "Dataset",
    "SyntheticDataset",
    "cache_dir",
    "check_preprocess",
    "decode_files",
    "embedded_split",
    "import_tensorflow",
    "known_size",
    "open_dataset",
    "permute",
    "prepare",
    "prepare_embedded",
    "train_indices",
]


def open_dataset(settings: DataSettings, split: str) -> Dataset:
    """Opens a split for reading, without downloading anything.

    Raises:
      BadSetting: the data set or the split does not exist or is not prepared.
      UserError: TensorFlow is needed and not installed.
    """
    if settings.name == "synthetic":
        if settings.subset:
            raise BadSetting("config.data.subset", settings.subset, "synthetic images have no subsets")
        return SyntheticDataset(settings)
    source = _tensorflow_module("opening").open_source(settings, split)
    dataset = _tensorflow_module("pipeline").ImageDataset(source, settings)
    if not source.label_names and not dataset.label_names:
        raise BadSetting("config.data.label_key", None, "no operation of config.data.eval_preprocess makes a label")
    return dataset


def check_preprocess(settings: DataSettings) -> None:
    """Raises BadSetting when a pre-processing string is wrong or does not yield the configured image size."""
    if settings.name == "synthetic":
        return
    for field in ("train_preprocess", "eval_preprocess"):
        text = getattr(settings, field)
        _tensorflow_module("preprocess").compile_steps(
            text, f"config.data.{field}", settings.height_width, settings.channels
        )


def decode_files(paths: list[str], settings: DataSettings) -> np.ndarray:
    """Image files as the model sees them in evaluation: uint8 (files, h, w, c)."""
    return _tensorflow_module("pipeline").decode_files(paths, settings)


def prepare(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> dict[str, int]:
    """Prepares a data set on disk, downloading what is not embedded or in `manual_dir`; gives {split: examples}."""
    return _tensorflow_module("preparation").prepare(name, data_dir, manual_dir)


def prepare_embedded(name: str, data_dir: str | None = None) -> None:
    """Prepares an embedded data set that is not on disk yet; leaves every other alone."""
    if name not in ("folder", "manifest", "synthetic"):
        _tensorflow_module("preparation").prepare_embedded(name, data_dir)


def embedded_split(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The embedded digits as arrays: uint8 (n, 8, 8) and int64 labels."""
    return _tensorflow_module("digits").load_split(split)


def import_tensorflow(purpose: str) -> "types.ModuleType":
    """TensorFlow, quiet and without accelerators, which belong to JAX.

    Raises:
      UserError: it cannot be imported; names the purpose.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # for matmuls, which no pipeline has; it announces itself
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(f"{purpose} needs TensorFlow, which cannot be imported ({error})") from None
    tf.config.set_visible_devices([], "GPU")
    return tf


def _tensorflow_module(name: str) -> "types.ModuleType":
    import_tensorflow("this data set")
    return importlib.import_module(f"vit_jax.data.{name}")
