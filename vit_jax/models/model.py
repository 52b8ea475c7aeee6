"""The face every model family shows to the other rooms: plain pytrees in, named features out."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vit_jax.errors import BadSetting
from vit_jax.models.axes import logical_axes
from vit_jax.models.layers import Constrain, unconstrained
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
    """

    settings: ModelSettings
    image_size: tuple[int, int]
    channels: int
    classes: int

    def __post_init__(self) -> None:
        patch = self.settings.patch
        if any(side < 1 or side % patch for side in self.image_size):
            near = sorted({max(patch, side // patch * patch + d) for side in self.image_size for d in (0, patch)})
            fix = f"is not divisible by the patch size {patch} of variant {self.settings.variant}; {near} would be"
            raise BadSetting("image_size", self.image_size, fix)
        if self.classes < 1:
            raise BadSetting("classes", self.classes, "must be at least 1")

    def _module(self, key: jax.Array) -> ViT:
        return ViT(self.settings, self.image_size, self.channels, self.classes, nnx.Rngs(params=key))

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as nested dicts. Pure: run it under `jit` with `out_shardings`."""
        return nnx.to_pure_dict(nnx.split(self._module(key))[1])

    @functools.cached_property
    def _graph(self) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: self._module(jax.random.key(0))))[0]

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
    ) -> dict[str, jax.Array]:
        """Runs the model.

        Args:
          params: from `init` or a checkpoint.
          images: (b, h, w, c) floats in [-1, 1], see `normalize`.
          dropout_key: turns dropout on; leave it out in evaluation.
          constrain: called on activations with their logical names.

        Returns:
          `stem` (b, n, d) patch embeddings; `tokens` (b, n, d) after the final norm; `pre_logits` (b, d); `logits`
          (b, classes) in float32.
        """
        return nnx.merge(self._graph, params)(images, dropout_key, constrain)


def normalize(images: jax.Array) -> jax.Array:
    """uint8 pixels -> float32 in [-1, 1], the range all released ViT and BiT files expect."""
    return images.astype(jnp.float32) / 127.5 - 1.0
