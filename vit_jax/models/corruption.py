"""Patch embeddings that are replaced before the encoder sees them: the input side of masked patch prediction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

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
        action = self.action[..., None]
        replaced = jnp.where(action == SWAP, swapped, patches)
        return jnp.where(action == MASK, mask_token.astype(patches.dtype), replaced)
