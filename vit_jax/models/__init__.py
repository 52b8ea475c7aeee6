"""Images -> named features -> logits. Knows nothing of data, meshes or files; needs jax, flax and numpy only."""

from vit_jax.models.axes import STACKED
from vit_jax.models.corruption import KEEP, MASK, SWAP, Corruption
from vit_jax.models.flops import count_flops, forward_flops, training_flops
from vit_jax.models.layers import Constrain, cut_patches, unconstrained
from vit_jax.models.model import Model, Params, normalize
from vit_jax.models.posemb import TokenLayout, position_table
from vit_jax.models.settings import ModelSettings
from vit_jax.models.variants import ENCODERS, RESNETS, EncoderShape, TrunkShape, Variant, parse_variant

__all__ = [
    "ENCODERS",
    "KEEP",
    "MASK",
    "RESNETS",
    "STACKED",
    "SWAP",
    "Constrain",
    "Corruption",
    "EncoderShape",
    "Model",
    "ModelSettings",
    "Params",
    "TokenLayout",
    "TrunkShape",
    "Variant",
    "count_flops",
    "cut_patches",
    "forward_flops",
    "normalize",
    "parse_variant",
    "position_table",
    "training_flops",
    "unconstrained",
]
