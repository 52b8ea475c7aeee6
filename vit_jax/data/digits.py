"""The embedded data set: scikit-learn's handwritten digits as a TFDS builder, prepared without any network."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

TEST_EXAMPLES = 360
SPLIT_SEED = 0


def load_split(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The scans of `train` (1,437) or `test` (360): stratified by class, `train_test_split(random_state=0)`.

    Returns:
      uint8 images (n, 8, 8), the 17 grey levels spread over 0..255, and int64 labels (n,).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=TEST_EXAMPLES, stratify=digits.target, random_state=SPLIT_SEED
    )
    return {"train": (train_x, train_y), "test": (test_x, test_y)}[split]


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 real 8x8 grey scans of handwritten digits (UCI "Optical Recognition of Handwritten Digits")."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Stratified split, 1,437 train and 360 test."}  # noqa: RUF012  TFDS reads it so

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits bundled with scikit-learn, stratified into train and test.",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        images, labels = load_split(split)
        for key, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield key, {"image": image[..., None], "label": int(label)}
