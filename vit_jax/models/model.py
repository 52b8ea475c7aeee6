"""The face every model family shows to the other rooms: plain pytrees in, named features out."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.errors import BadSetting
from vit_jax.models.axes import logical_axes
from vit_jax.models.bit import ResNet
from vit_jax.models.corruption import Corruption
from vit_jax.models.layers import Constrain, unconstrained
from vit_jax.models.resnet import StdConv, standardized, trunk_grid, trunk_stride
from vit_jax.models.settings import ModelSettings
from vit_jax.models.vit import ViT
from vit_jax.trees import named_leaves

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model as pure functions over nested dicts of arrays; it holds no arrays itself.

    Attributes:
      settings: what to build.
      image_size: (height, width) in pixels.
      channels: of the images.
      classes: outputs of the head.
      standardized: whether `apply` is given what `standardize` makes of parameters.
    """

    settings: ModelSettings
    image_size: tuple[int, int]
    channels: int
    classes: int
    standardized: bool = False

    def __post_init__(self) -> None:
        if min(self.image_size) < 1:
            raise BadSetting("image_size", self.image_size, "must be at least 1 x 1")
        if min(self.grid) < 1:
            fix = f"holds no whole patch of variant {self.settings.variant}, which takes {self.stride} pixels a side"
            raise BadSetting("image_size", self.image_size, fix)
        if self.classes < 0:
            raise BadSetting("classes", self.classes, "must be at least 1, or 0 for a model without classifier")

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the patches, or of a ResNet's output."""
        height, width = self.image_size
        if self.settings.resolved.trunk:
            height, width = trunk_grid(self.settings.resolved.trunk, self.image_size)
        patch = self.settings.resolved.patch
        return height // patch, width // patch

    @property
    def unseen_pixels(self) -> tuple[int, int]:
        """Rows at the bottom and columns at the right of an image that no patch covers.

        A ViT never sees them. In a hybrid they still count in the trunk's norms.
        """
        if self.settings.resolved.trunk and self.settings.resolved.patch == 1:
            return 0, 0
        height, width = ((side - cells * self.stride) for side, cells in zip(self.image_size, self.grid, strict=True))
        return max(0, height), max(0, width)

    @property
    def stride(self) -> int:
        """Pixels a side for one patch, or for one position of a ResNet's output."""
        trunk = self.settings.resolved.trunk
        return self.settings.resolved.patch * (trunk_stride(trunk) if trunk else 1)

    @property
    def tokens(self) -> int:
        """Sequence length: patches, class token and registers; the positions of a ResNet's output."""
        extra = self.settings.registers + self.settings.has_class_token
        return self.grid[0] * self.grid[1] + extra

    def _module(self, key: jax.Array) -> ViT | ResNet:
        rngs = nnx.Rngs(params=key)
        if self.settings.resolved.encoder is None:
            return ResNet(self.settings, self.channels, self.classes, rngs)
        return ViT(self.settings, self.grid, self.channels, self.classes, rngs)

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as nested dicts. Pure: run it under `jit` with `out_shardings`."""
        return nnx.to_pure_dict(nnx.split(self._module(key))[1])

    @functools.cached_property
    def _graph(self) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: self._module(jax.random.key(0))))[0]

    def standardize(self, params: Params) -> Params:
        """The parameters with standardised kernels of convolutions, where the model has such; the others as they are.

        A step of several micro-batches does it once. The model to apply to the result is
        `dataclasses.replace(model, standardized=True)`.
        """
        module = nnx.merge(self._graph, params)
        for _, layer in nnx.iter_modules(module):
            if isinstance(layer, StdConv):
                layer.kernel[...] = standardized(layer.kernel[...], layer.version)
        return nnx.to_pure_dict(nnx.split(module)[1])

    @functools.cached_property
    def abstract_params(self) -> Params:
        """`jax.ShapeDtypeStruct` of every parameter, without computing any."""
        return jax.eval_shape(self.init, jax.random.key(0))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{parameter name: shape}, for example {"head/kernel": (768, 1000), ...}."""
        return {name: leaf.shape for name, leaf in named_leaves(self.abstract_params).items()}

    @property
    def parameter_count(self) -> int:
        """Number of trainable scalars."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def logical_axes(self) -> dict[str, tuple[str, ...]]:
        """{parameter name: logical name of each dimension}."""
        return logical_axes(self.shapes)

    def apply(
        self,
        params: Params,
        images: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
        constrain: Constrain = unconstrained,
        corruption: Corruption | None = None,
        blocks: bool = False,
        attention: bool | Callable[[jax.Array], Any] = False,
    ) -> dict[str, Any]:
        """Runs the model.

        Args:
          params: from `init` or a checkpoint.
          images: (b, h, w, c) floats in [-1, 1], see `normalize`.
          dropout_key: turns on dropout of all kinds; leave it out in evaluation.
          constrain: called on activations with their logical names.
          corruption: replaces some patch embeddings; needs `mask_token` in the settings.
          blocks: also return what every block puts out.
          attention: also return attention weights, or what this function of a block's weights gives; attention then
            takes the plain path. The weights of all blocks together are large (24 x 16 heads of 577 x 577 tokens are
            0.5 GB an image); a function keeps no more than those of one block.

        Returns:
          `stem`: (b, n, d) patch embeddings, before any corruption; a ResNet's root output (b, h, w, c).
          `tokens`: (b, n, d) after the final norm: class token, registers, patches in raster order.
          `pre_logits`: (b, d), what the classifier reads; (b, patches, d) with pool `none`.
          `logits`: (b, classes) in float32, unless the model has no classes; (b, patches, classes) with pool `none`.
          `blocks`: a tuple with the (b, n, d) output of each encoder block, or the (b, h, w, c) output of each unit.
          `trunk`: with `blocks`, a hybrid's root output and the output of each unit of its trunk.
          `attention`: a tuple with the (b, k, n, n) float32 weights of each encoder block; of a function, the arrays
            it gives, stacked along a leading layer axis.

        Raises:
          BadSetting: attention weights of a model that has none, or whose blocks are axial; corruption of a model that
            has no mask token.
          ValueError: images of another shape than the model's; only ResNets take any size.
        """
        wanted = (*self.image_size, self.channels)
        any_size = self.settings.resolved.encoder is None
        if images.shape[3 if any_size else 1 :] != wanted[2 if any_size else 0 :] or images.ndim != 4:
            raise ValueError(f"images of shape {images.shape}; the model takes (b, {', '.join(map(str, wanted))})")
        if attention and (self.settings.resolved.encoder is None or self.settings.axial):
            raise BadSetting("attention", True, f"{self.settings.variant} has no attention over all tokens")
        if corruption is not None and not self.settings.mask_token:
            raise BadSetting("mask_token", False, "patches can only be left out of a model that has one")
        # NumPy's promotion rules would turn bfloat16 activations back into float32.
        module = nnx.merge(self._graph, jax.tree.map(jnp.asarray, params))
        for _, layer in nnx.iter_modules(module) if self.standardized else ():
            if isinstance(layer, StdConv):
                layer.ready = True
        options = {} if corruption is None else {"corruption": corruption}
        return module(jnp.asarray(images), dropout_key, constrain, blocks=blocks, attention=attention, **options)


def normalize(images: jax.Array) -> jax.Array:
    """uint8 pixels -> float32 in [-1, 1], the range all released ViT and BiT files expect."""
    return images.astype(jnp.float32) / 127.5 - 1.0
