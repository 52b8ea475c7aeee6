"""Variant strings such as `B/16` and the shapes they stand for."""

import dataclasses
import re

from vit_jax.errors import BadSetting, did_you_mean


@dataclasses.dataclass(frozen=True)
class EncoderShape:
    """Width (embed), depth (layers), MLP width and heads of a transformer encoder."""

    width: int
    depth: int
    mlp_dim: int
    heads: int


# B, L, H: table 1 of the ViT paper. Ti, S: DeiT and AugReg. g, G: table 2 of arXiv 2106.04560. So400m: arXiv
# 2305.13035. e: arXiv 2209.06794. mu (tests) and nano (the embedded 8x8 digits) are toys of ours.
ENCODERS = {
    "mu": EncoderShape(32, 1, 128, 2),
    "nano": EncoderShape(64, 4, 256, 4),
    "Ti": EncoderShape(192, 12, 768, 3),
    "S": EncoderShape(384, 12, 1536, 6),
    "M": EncoderShape(512, 12, 2048, 8),
    "B": EncoderShape(768, 12, 3072, 12),
    "L": EncoderShape(1024, 24, 4096, 16),
    "So400m": EncoderShape(1152, 27, 4304, 16),
    "H": EncoderShape(1280, 32, 5120, 16),
    "g": EncoderShape(1408, 40, 6144, 16),
    "G": EncoderShape(1664, 48, 8192, 16),
    "e": EncoderShape(1792, 56, 15360, 16),
}


def parse_variant(variant: str) -> tuple[EncoderShape, int]:
    """`"B/16"` -> (shape of B, 16).

    Raises:
      BadSetting: the string is not `<encoder>/<patch>` or the encoder is unknown.
    """
    match = re.fullmatch(r"([A-Za-z0-9]+)/([1-9][0-9]*)", variant)
    if not match:
        raise BadSetting("variant", variant, "write <encoder>/<patch>, for example B/16")
    encoder, patch = match.groups()
    if encoder not in ENCODERS:
        raise BadSetting("variant", variant, f"unknown encoder {encoder!r}; {did_you_mean(encoder, ENCODERS)}")
    return ENCODERS[encoder], int(patch)
