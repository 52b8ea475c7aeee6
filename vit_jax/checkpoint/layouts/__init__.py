"""Published formats of weights: their names and shapes, read in both directions."""

from vit_jax.checkpoint.layouts import bit, google, huggingface, timm
from vit_jax.checkpoint.layouts.layout import Hints, Layout
from vit_jax.checkpoint.layouts.rules import Arrays, from_file, their_names, to_file

LAYOUTS = (google.LAYOUT, bit.LAYOUT, *timm.LAYOUTS, *huggingface.LAYOUTS)

__all__ = ["LAYOUTS", "Arrays", "Hints", "Layout", "from_file", "their_names", "to_file"]
