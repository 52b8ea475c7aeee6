"""Patch embeddings that are replaced before the encoder sees them: the input side of masked patch prediction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vit_jax.models.layers import cut_patches

KEEP, MASK, SWAP = 0, 1, 2


class Corruption(NamedTuple):
    """What the encoder gets in place of each patch embedding (paper, appendix B.1.2).

    It acts before position embeddings are added, so that the encoder still knows where a patch was.

    Attributes:
      action: (b, n) int32: `KEEP` the embedding, put the learned `MASK` token, or `SWAP` in that of another patch.
      donor: (b, n) int32: the patch of the same image that a swap takes.
    """

    action: jax.Array
    donor: jax.Array

    def apply(self, patches: jax.Array, mask_token: jax.Array) -> jax.Array:
        """(b, n, d) patch embeddings and the (1, 1, d) mask token -> (b, n, d)."""
        swapped = jnp.take_along_axis(patches, self.donor[..., None], axis=1)
        return self.mask(jnp.where(self.action[..., None] == SWAP, swapped, patches), mask_token)

    def mask(self, patches: jax.Array, mask_token: jax.Array) -> jax.Array:
        """As `apply`, but swaps nothing."""
        return jnp.where(self.action[..., None] == MASK, mask_token.astype(patches.dtype), patches)

    def apply_to_pixels(self, images: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """The same for the pixels of each patch, masked ones grey, as hybrids need it.

        The embeddings of a hybrid are made by convolutions, which see into the patches around: were only embeddings
        replaced, those of the neighbours would tell what was hidden.

        Args:
          images: (b, h, w, c) in [-1, 1].
          grid: (rows, columns) of the patches, which cover the image.
        """
        rows, columns = grid
        patches = cut_patches(images, grid)
        b, n, h, w, c = patches.shape
        changed = self.apply(patches.reshape(b, n, -1), jnp.zeros((), images.dtype))
        return changed.reshape(b, rows, columns, h, w, c).swapaxes(2, 3).reshape(images.shape)
