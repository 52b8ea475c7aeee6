"""Exports that carry the program: files that other software runs without vit_jax.

All take float32 images (b, h, w, c) in [-1, 1], any b, and give float32 logits. Each export is a new folder with the
program, `preprocessing.json` and `README.md`; it appears only after the written program was run and gave the model's
logits.
"""

from vit_jax.checkpoint.programs.onnx import export_onnx
from vit_jax.checkpoint.programs.saved_model import export_saved_model
from vit_jax.checkpoint.programs.stablehlo import export_stablehlo

__all__ = ["export_onnx", "export_saved_model", "export_stablehlo"]
