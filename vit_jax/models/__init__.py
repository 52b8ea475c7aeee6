"""Images -> named features -> logits. Knows nothing of data, meshes or files; needs jax, flax and numpy only."""

from vit_jax.models.layers import Constrain
from vit_jax.models.model import Model, Params, normalize
from vit_jax.models.settings import ModelSettings
from vit_jax.models.variants import ENCODERS, EncoderShape, parse_variant

__all__ = ["ENCODERS", "Constrain", "EncoderShape", "Model", "ModelSettings", "Params", "normalize", "parse_variant"]
