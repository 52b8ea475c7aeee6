"""What was learned, as pictures."""

from vit_jax.inspect.contact_sheet import draw_contact_sheet
from vit_jax.inspect.curves import draw_learning_curve

__all__ = ["draw_contact_sheet", "draw_learning_curve"]
