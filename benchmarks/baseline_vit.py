"""A ViT and its train step in the way of big_vision's public code, in our own words: what ours is held against.

Linen modules; LayerNorm and attention of Flax; query, key and value by themselves; GELU by the tanh; blocks unrolled,
or scanned with `nn.remat` that keeps nothing; optax's AdamW; norms of gradients, parameters and updates as metrics.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


class Block(nn.Module):
    """Attention and MLP, each after a norm and with a shortcut."""

    heads: int
    mlp_dim: int
    float32_softmax: bool

    @nn.compact
    def __call__(self, x: jax.Array, _: None = None) -> tuple[jax.Array, None]:
        """(b, n, d) -> (b, n, d)."""
        options: dict[str, Any] = {"dtype": jnp.bfloat16, "force_fp32_for_softmax": self.float32_softmax}
        attention = nn.MultiHeadDotProductAttention(self.heads, deterministic=True, **options)
        y = nn.LayerNorm()(x)
        x = x + attention(y, y)
        y = nn.Dense(self.mlp_dim, dtype=jnp.bfloat16)(nn.LayerNorm()(x))
        return x + nn.Dense(x.shape[-1], dtype=jnp.bfloat16)(nn.gelu(y)), None


class Baseline(nn.Module):
    """Class token, learned positions, encoder, classifier."""

    width: int
    depth: int
    mlp_dim: int
    heads: int
    patch: int
    classes: int
    scan: bool
    float32_softmax: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """(b, h, w, 3) -> (b, classes) float32."""
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, strides=size, padding="VALID", dtype=jnp.bfloat16)(images)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)).astype(x.dtype), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:])).astype(x.dtype)
        if self.scan:
            block = nn.remat(Block, prevent_cse=False)
            axes: dict[str, Any] = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            x, _ = nn.scan(block, length=self.depth, **axes)(self.heads, self.mlp_dim, self.float32_softmax)(x, None)
        else:
            for _ in range(self.depth):
                x, _ = Block(self.heads, self.mlp_dim, self.float32_softmax)(x)
        return nn.Dense(self.classes)(nn.LayerNorm()(x)[:, 0])


@dataclasses.dataclass(frozen=True)
class BaselineStep:
    """The step and the shapes of its arguments: state = (params, optimizer state)."""

    model: Baseline
    optimizer: optax.GradientTransformation
    image_size: int

    def state(self) -> Any:
        """Shapes of the parameters and of the optimizer's state."""
        image = jax.ShapeDtypeStruct((1, self.image_size, self.image_size, 3), jnp.float32)
        params = jax.eval_shape(self.model.init, jax.random.key(0), image)["params"]
        return params, jax.eval_shape(self.optimizer.init, params)

    def __call__(self, state: Any, batch: dict[str, jax.Array]) -> tuple[Any, dict[str, jax.Array]]:
        """One step on uint8 images and integer labels."""
        params, moments = state

        def loss_of(params: Any) -> jax.Array:
            logits = self.model.apply({"params": params}, batch["image"].astype(jnp.float32) / 127.5 - 1.0)
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, moments = self.optimizer.update(gradients, moments, params)
        norms = {"gradients": gradients, "params": params, "updates": updates}
        metrics = {"loss": loss, **{name: optax.global_norm(tree) for name, tree in norms.items()}}
        return (optax.apply_updates(params, updates), moments), metrics
