"""The BiT ResNet as a classifier (arXiv 1912.11370)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.models.layers import Constrain, make_head
from vit_jax.models.resnet import GROUP_NORM_EPSILON, GroupNorm, Trunk, trunk_channels
from vit_jax.models.settings import ModelSettings


class ResNet(nnx.Module):
    """Images to named features; see `Model` in `vit_jax.models` for the calling convention.

    Parameter names: `trunk/...`, `norm` (version 2 only: version 1 ends normalised), `head`.
    """

    def __init__(self, settings: ModelSettings, channels: int, classes: int, rngs: nnx.Rngs):
        shape = settings.resolved.trunk
        assert shape is not None
        dtype, width = jnp.dtype(settings.dtype), trunk_channels(shape)
        self.settings, self.classes = settings, classes
        self.trunk = Trunk(shape, channels, dtype, rngs)
        if shape.version == 2:
            self.norm = GroupNorm(width, GROUP_NORM_EPSILON[2], dtype)
        if classes:
            self.head = make_head(width, classes, settings.head_bias, rngs)

    def __call__(
        self,
        images: jax.Array,
        dropout_key: jax.Array | None,
        constrain: Constrain,
        *,
        blocks: bool = False,
        attention: bool | Callable[[jax.Array], Any] = False,
    ) -> dict[str, Any]:
        """(b, h, w, c) float images in [-1, 1] -> features by name, see `Model.apply`. No dropout, no attention."""
        outputs: list[jax.Array] = []
        x = self.trunk(images, constrain, scan=self.settings.scan, remat=self.settings.remat, outputs=outputs)
        features: dict[str, Any] = {"stem": outputs[0]}
        if blocks:
            features["blocks"] = tuple(outputs[1:])
        if hasattr(self, "norm"):
            x = jax.nn.relu(self.norm(x))
        x = features["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        x = features["pre_logits"] = constrain(x.mean(axis=1), ("batch", "embed"))
        if self.classes:
            features["logits"] = constrain(self.head(x), ("batch", "classes"))
        return features
