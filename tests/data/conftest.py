"""Helpers for tests of data; where TensorFlow is missing, only the files that need none are collected."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

NEED_TF = [
    "affine",
    "arrayrecord",
    "bad_images",
    "digits",
    "docs",
    "files",
    "host_ops",
    "imagenet21k",
    "labels",
    "libjpeg",
    "manifest",
    "mixture",
    "opening",
    "picture",
    "pipeline",
    "preprocess",
    "sources",
    "subset",
    "tfrecord",
]
collect_ignore = [] if importlib.util.find_spec("tensorflow") else [f"test_{name}.py" for name in NEED_TF]


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """(uint8 image, format) -> bytes as Pillow writes them: an encoder unrelated to the decoder under test."""
    import io

    from PIL import Image

    def make(image: np.ndarray, kind: str = "PNG") -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind)
        return file.getvalue()

    return make


@pytest.fixture
def write_images(tmp_path: Path, encode: Callable[..., bytes]) -> Callable[[Mapping[str, int]], Path]:
    """Writes {relative path: grey level} as 6x6 images and gives their root."""
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}

    def make(files: Mapping[str, int]) -> Path:
        root = tmp_path / "images"
        for name, level in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = np.full((6, 6, 3), level, np.uint8)
            path.write_bytes(encode(image, kinds.get(path.suffix.lower(), "PNG")))
        return root

    return make
