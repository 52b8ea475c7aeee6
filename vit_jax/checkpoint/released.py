"""The layout of the ViT files that Google released: flat npz archives, float32.

Names keep the numbering of the library they were written with (`MultiHeadDotProductAttention_1`, `LayerNorm_2`,
`MlpBlock_3`): the form that vision_transformer, big_vision and timm all read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoint.metadata import check_same_shapes
from vit_jax.errors import UserError
from vit_jax.models import Model, Params
from vit_jax.trees import named_leaves, nested

# Ours -> theirs, outside the encoder blocks.
_NAMES = {
    "cls": "cls",
    "pos_embedding": "Transformer/posembed_input/pos_embedding",
    "norm": "Transformer/encoder_norm",
    "embedding": "embedding",
    "pre_logits": "pre_logits",
    "head": "head",
}
# Inside block i, below Transformer/encoderblock_{i}/.
_BLOCK_NAMES = {
    "norm1": "LayerNorm_0",
    "attn": "MultiHeadDotProductAttention_1",
    "norm2": "LayerNorm_2",
    "mlp/dense1": "MlpBlock_3/Dense_0",
    "mlp/dense2": "MlpBlock_3/Dense_1",
}


def to_released(params: Params) -> dict[str, np.ndarray]:
    """Our parameters under the released names, float32, one entry a layer."""
    arrays = {}
    for name, leaf in named_leaves(params).items():
        array = np.asarray(leaf, np.float32)
        if name.startswith("blocks/"):
            for layer, part in enumerate(array):
                arrays[_block_name(name, layer)] = part
        else:
            head, _, rest = name.partition("/")
            arrays["/".join(filter(None, (_NAMES[head], rest)))] = array
    return arrays


def from_released(arrays: Mapping[str, np.ndarray], model: Model, where: str) -> Params:
    """The inverse of `to_released`, checked against the model.

    Raises:
      UserError: names the arrays that are missing, surplus, of another shape or not of numbers.
    """
    theirs: dict[str, Any] = {}
    sources: dict[str, list[str]] = {}
    for name, shape in model.shapes.items():
        if name.startswith("blocks/"):
            sources[name] = [_block_name(name, layer) for layer in range(shape[0])]
            theirs.update(dict.fromkeys(sources[name], shape[1:]))
        else:
            head, _, rest = name.partition("/")
            sources[name] = ["/".join(filter(None, (_NAMES[head], rest)))]
            theirs[sources[name][0]] = shape
    check_same_shapes({name: array.shape for name, array in arrays.items()}, theirs, where)
    strange = [f"{name} ({array.dtype})" for name, array in arrays.items() if array.dtype.kind not in "fiu"]
    if strange:
        raise UserError(f"{where} holds arrays that are not real numbers: {', '.join(strange[:3])}")
    stacked = {
        name: np.stack([arrays[s] for s in found]) if name.startswith("blocks/") else arrays[found[0]]
        for name, found in sources.items()
    }
    return nested({name: array.astype(np.float32) for name, array in stacked.items()})


def _block_name(name: str, layer: int) -> str:
    rest = name.removeprefix("blocks/")
    ours = next(prefix for prefix in _BLOCK_NAMES if rest.startswith(prefix + "/"))
    return f"Transformer/encoderblock_{layer}/{_BLOCK_NAMES[ours]}{rest.removeprefix(ours)}"
