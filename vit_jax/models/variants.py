"""Variant strings such as `B/16`, `R50+B/16` and `R50x1`, and the shapes they stand for."""

import dataclasses
import re

from vit_jax.errors import BadSetting, did_you_mean


@dataclasses.dataclass(frozen=True)
class EncoderShape:
    """A transformer encoder.

    Attributes:
      width: embed size.
      depth: layers.
      mlp_dim: hidden size of the MLP.
      heads: attention heads.
      parallel: attention and MLP side by side after one norm, in place of one after the other.
      qk_norm: norm of queries and keys, over each head's dimension.
      qkv_bias: biases of the query, key and value projections.
      norm: `layer` for LayerNorm, `rms` for LayerNorm without centring and bias.
    """

    width: int
    depth: int
    mlp_dim: int
    heads: int
    parallel: bool = False
    qk_norm: bool = False
    qkv_bias: bool = True
    norm: str = "layer"


@dataclasses.dataclass(frozen=True)
class TrunkShape:
    """A convolutional trunk with bottleneck units, GroupNorm and weight-standardised convolutions (BiT).

    Attributes:
      units: of each stage; none means the root alone.
      width: factor on all channels.
      version: 2 is pre-activation, as BiT was released; 1 is post-activation, as the hybrids were.
    """

    units: tuple[int, ...]
    width: int = 1
    version: int = 2


@dataclasses.dataclass(frozen=True)
class Variant:
    """What a variant string stands for.

    Attributes:
      encoder: of a ViT or hybrid; None for a ResNet.
      patch: side of the squares that the encoder's embedding takes: pixels, or positions of the trunk's output.
      trunk: of a hybrid or ResNet; None for a ViT.
    """

    encoder: EncoderShape | None
    patch: int
    trunk: TrunkShape | None

    @property
    def family(self) -> str:
        """`ViT`, `hybrid` or `ResNet`."""
        if self.encoder is None:
            return "ResNet"
        return "hybrid" if self.trunk else "ViT"


# B, L, H: table 1 of the ViT paper. Ti, S: DeiT and AugReg. g, G: table 2 of arXiv 2106.04560. So400m: arXiv
# 2305.13035. e: arXiv 2209.06794. 22B: arXiv 2302.05442. mu (tests) and nano (the embedded 8x8 digits) are toys of
# ours.
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
    "22B": EncoderShape(6144, 48, 24576, 48, parallel=True, qk_norm=True, qkv_bias=False, norm="rms"),
}

# Bottleneck units of the four stages. 26: the AugReg hybrids. 50 to 200: arXiv 1912.11370 and the ViT paper's table 6.
RESNETS = {
    "26": (2, 2, 2, 2),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
    "200": (3, 24, 36, 3),
}

_FORM = "write <encoder>/<patch> such as B/16, R<layers>+<encoder>/<16 or 32> such as R50+B/16, or R<layers>x<width>"


def parse_variant(variant: str) -> Variant:
    """Reads `B/16` (ViT), `R50+B/16`, `R50x2+B/32`, `R+Ti/16` (hybrids) or `R50x1` (ResNet).

    The number after a hybrid's slash is its total down-sampling: with 16 the units of stage 4 are in stage 3 (paper,
    section 4.1). `R+Ti/16` is the exception of the released files: its root is followed by 8 x 8 patches, 32 in all.

    Raises:
      BadSetting: the string has none of these forms, or names something unknown.
    """
    match = re.fullmatch(r"R([0-9]+)x([1-9][0-9]{0,5})", variant)
    if match:
        return Variant(None, 1, TrunkShape(_units(variant, match[1]), int(match[2]), 2))
    match = re.fullmatch(r"(?:R([0-9]*)(?:x([1-9][0-9]{0,5}))?\+)?([A-Za-z0-9]+)/([1-9][0-9]{0,5})", variant)
    if not match:
        raise BadSetting("variant", variant, _FORM)
    layers, factor, name, number = match.groups()
    if name not in ENCODERS:
        raise BadSetting("variant", variant, f"unknown encoder {name!r}; {did_you_mean(name, ENCODERS)}")
    if layers is None:
        return Variant(ENCODERS[name], int(number), None)
    units, patch = _hybrid(variant, layers, int(number))
    return Variant(ENCODERS[name], patch, TrunkShape(units, int(factor or 1), 1))


def _hybrid(variant: str, layers: str, down_sampling: int) -> tuple[tuple[int, ...], int]:
    """(units of the stages, patch) of a hybrid."""
    if not layers:
        if down_sampling != 16:
            raise BadSetting(
                "variant", variant, "a root without stages is released as /16 only; set `patch` for others"
            )
        return (), 8
    one, two, three, four = _units(variant, layers)
    if down_sampling not in (16, 32):
        raise BadSetting("variant", variant, "a hybrid down-samples by 16 or 32; set `patch` for coarser tokens")
    return ((one, two, three + four) if down_sampling == 16 else (one, two, three, four)), 1


def _units(variant: str, layers: str) -> tuple[int, ...]:
    if layers not in RESNETS:
        raise BadSetting("variant", variant, f"unknown ResNet R{layers}; there are R{', R'.join(RESNETS)}")
    return RESNETS[layers]
