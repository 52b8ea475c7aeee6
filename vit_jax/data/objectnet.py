"""ObjectNet's pictures of the classes that ILSVRC-2012 has too, from the release as objectnet.dev gives it.

Unpack objectnet-1.0.zip (its password is in its README) and run `vit_jax prepare objectnet --manual_dir=objectnet-1.0`.
Which classes are shared, and which ILSVRC classes each of them stands for, is read from the release's own `mappings/`.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.errors import UserError

BORDER = 2  # red pixels that mark every picture, so that nobody trains on them; the release's own loader cuts 2
MAPPINGS = {
    "folder_to_objectnet_label.json": "{folder: class}",
    "objectnet_to_imagenet_1k.json": "{class: 'ILSVRC label; ILSVRC label'}",
    "pytorch_to_imagenet_2012_id.json": "{ILSVRC class by sorted synset: line of the next file}",
    "imagenet_to_label_2012_v2": "ILSVRC labels, one a line",
}


class ObjectNet(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """ObjectNet as a TFDS data set with the split `test`: `image` without its red border, `labels`, `file_name`.

    `labels` are numbers of ILSVRC-2012 classes in TFDS's order (by synset); an answer is right when it is any of them.

    Args:
      manual_dir: the unpacked release, with `images/<folder>/*.png` and `mappings/`.
      **more: as every TFDS builder takes.

    Raises:
      UserError: the folder is not such a release.
    """

    name = "objectnet"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The classes shared with ILSVRC-2012."}  # noqa: RUF012  TFDS reads it so

    def __init__(self, *, manual_dir: str, **more: Any):
        self._root = Path(manual_dir).expanduser()
        self._folders = shared_folders(self._root / "mappings")
        self.left_out: list[str] = []
        super().__init__(**more)

    def _info(self) -> tfds.core.DatasetInfo:
        from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

        names = tfds.features.ClassLabel(names_file=imagenet_common.label_names_file())
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "labels": tfds.features.Sequence(names),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="ObjectNet's classes that ILSVRC-2012 has too.",
            features=tfds.features.FeaturesDict(features),
            homepage="https://objectnet.dev",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"test": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for folder, labels in sorted(self._folders.items()):
            for path in sorted((self._root / "images" / folder).glob("*.png")):
                key = f"{folder}/{path.name}"
                try:
                    image = tf.io.decode_png(path.read_bytes(), channels=3)
                except tf.errors.InvalidArgumentError:
                    self.left_out.append(key)
                    continue
                inner = tf.io.encode_png(image[BORDER:-BORDER, BORDER:-BORDER]).numpy()
                yield key, {"image": io.BytesIO(inner), "labels": labels, "file_name": key}


def shared_folders(mappings: Path) -> dict[str, list[int]]:
    """{folder of images: the ILSVRC classes it stands for, numbered by sorted synset}, for the shared classes only.

    Raises:
      UserError: a mapping is missing, or one names what another does not.
    """
    for name, content in MAPPINGS.items():
        if not (mappings / name).is_file():
            raise UserError(f"--manual_dir: {mappings / name} is missing ({content}): unpack the whole release")
    texts = [(mappings / name).read_text(encoding="utf-8") for name in MAPPINGS]
    try:
        class_of, ilsvrc_of, line_of = (json.loads(text) for text in texts[:3])
        number = {int(line): int(n) for n, line in line_of.items()}
        numbers = {label.strip(): number[i] for i, label in enumerate(texts[3].splitlines())}
        folders = {name: folder for folder, name in class_of.items()}
        return {
            folders[name]: sorted(numbers[label] for label in labels.split("; ")) for name, labels in ilsvrc_of.items()
        }
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"--manual_dir: {mappings} does not fit together ({error!r}): unpack the release again"
        ) from None
