"""What was learned, as pictures."""

from vit_jax.inspect.curves import draw_learning_curve

__all__ = ["draw_learning_curve"]
