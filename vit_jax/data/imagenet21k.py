"""ImageNet-21k from its public archives: one tar of JPEG files for each synset, as image-net.org gives them.

Unpack `fall11_whole.tar` (21,841 synsets) or `winter21_whole.tar.gz` (19,167) once, so that `n01440764.tar` and its
like lie somewhere below one folder, and run `vit_jax prepare imagenet21k --manual_dir=<folder>`. There is one split,
`train`; slices of it are held out, see `vit_jax.data.catalog`.
"""

import collections
import concurrent.futures
import io
import itertools
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.errors import UserError

CLASS_FILE = "imagenet21k_wordnet_ids.txt"  # the name in Google's vision_transformer repository
_SYNSET = re.compile(r"n\d{8}")
_AHEAD = 64  # pictures of one archive in memory at once


def is_readable(image: bytes) -> bool:
    """Whether a picture decodes to its end. JPEG is decoded at an eighth of its size, which is three times as fast."""
    try:
        if image[:2] == b"\xff\xd8":
            tf.io.decode_jpeg(image, ratio=8)
        else:
            tf.io.decode_image(image, expand_animations=False)
    except tf.errors.InvalidArgumentError:
        return False
    return True


class Imagenet21k(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """ImageNet-21k as a TFDS data set: `image`, `label` (the synset) and `file_name`.

    Classes are the synsets of the tars, sorted; a file `imagenet21k_wordnet_ids.txt` in the folder, one synset a line,
    gives another order, and classes without pictures.

    Args:
      manual_dir: the folder with the tars.
      **more: as every TFDS builder takes.

    Attributes:
      left_out: names of the pictures that cannot be decoded, once prepared.

    Raises:
      UserError: there are no tars, a synset has two, or one is not in the class file.
    """

    name = "imagenet21k"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Pictures as they are in the archives."}  # noqa: RUF012  TFDS reads it so

    def __init__(self, *, manual_dir: str, **more: Any):
        self._tars = _find_tars(Path(manual_dir).expanduser())
        self._classes = _find_classes(Path(manual_dir).expanduser(), list(self._tars))
        self.left_out: list[str] = []
        super().__init__(**more)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=self._classes),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="ImageNet-21k, made from one tar a synset.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://image-net.org",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for synset, path in self._tars.items():
                for name, image, good in _checked(_pictures(path), pool):
                    key = f"{synset}/{name}"
                    if good:
                        yield key, {"image": io.BytesIO(image), "label": synset, "file_name": key}
                    else:
                        self.left_out.append(key)


def _find_tars(folder: Path) -> dict[str, Path]:
    """{synset: its tar}, sorted."""
    found = sorted((p for p in folder.rglob("n*.tar") if _SYNSET.fullmatch(p.stem)), key=lambda p: p.stem)
    if not found:
        fix = "unpack fall11_whole.tar or winter21_whole.tar.gz there"
        raise UserError(f"--manual_dir={folder}: holds no synset archives (n01440764.tar, ...): {fix}")
    twice = [synset for synset, count in collections.Counter(p.stem for p in found).items() if count > 1]
    if twice:
        raise UserError(f"--manual_dir={folder}: holds {twice[0]}.tar more than once: keep one release")
    return {path.stem: path for path in found}


def _find_classes(folder: Path, synsets: list[str]) -> list[str]:
    path = folder / CLASS_FILE
    if not path.exists():
        return synsets
    classes = path.read_text(encoding="utf-8").split()
    unknown = sorted(set(synsets) - set(classes))
    if unknown or len(set(classes)) != len(classes):
        fault = f"lacks {unknown[0]}, which has a tar" if unknown else "names a synset twice"
        raise UserError(f"{path} {fault}: mend or remove it")
    return classes


def _pictures(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the files of a tar, in order."""
    try:
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield Path(member.name).name, file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read to its end ({error}): fetch it again") from None


def _checked(
    pictures: Iterator[tuple[str, bytes]], pool: concurrent.futures.Executor
) -> Iterator[tuple[str, bytes, bool]]:
    """The same with whether each can be decoded; a window of them is decoded at once."""
    while window := list(itertools.islice(pictures, _AHEAD)):
        for (name, image), good in zip(window, pool.map(is_readable, [i for _, i in window]), strict=True):
            yield name, image, good
