"""ONNX by `jax2onnx`: for onnxruntime and the many tools that read ONNX."""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from vit_jax.checkpoint.card import ONNX
from vit_jax.checkpoint.metadata import Metadata
from vit_jax.checkpoint.programs.program import Program, publish
from vit_jax.errors import UserError
from vit_jax.models import Params

OPSET = 21
# jax2onnx declares an old orbax-checkpoint, which it does not need: with its dependencies pip would downgrade ours.
INSTALL = "pip install onnx onnx-ir onnxruntime && pip install --no-deps jax2onnx"
_PACKAGES = ("jax2onnx", "onnx", "onnx_ir", "onnxruntime")
_FATAL = 4


def export_onnx(params: Params, metadata: Metadata, path: Path) -> list[Path]:
    """Writes the folder `path` with `model.onnx`, and `model.onnx.data` if the weights take more than about 2 MB.

    The graph has the input `images` with a free batch size and the output `logits`; layers are unrolled.

    Args:
      params: arrays that this process can read whole.
      metadata: describes them.
      path: a folder that is empty or does not exist.

    Returns:
      The written files.

    Raises:
      UserError: as `publish` does; packages are missing; the model has an operation that jax2onnx or onnxruntime lack.
    """
    missing = [name.replace("_", "-") for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX export lacks {', '.join(missing)}: {INSTALL}")
    # jax2onnx 0.17.1 cannot take the projections of queries, keys and values without biases.
    biases = {"qkv_bias": True} if metadata.model.settings.resolved.encoder else {}
    program = Program.of(params, metadata, scan=False, **biases)

    def write(folder: Path) -> None:
        with _converter_errors(program):
            _convert(program, folder / "model.onnx")

    def run(folder: Path, images: np.ndarray) -> np.ndarray:
        with _converter_errors(program):
            return _run(folder / "model.onnx", images)

    return publish(program, path, ONNX, write, run)


def _convert(program: Program, file: Path) -> None:
    import jax2onnx

    with _quiet():
        jax2onnx.to_onnx(
            lambda images: program(program.weights, images),
            inputs=[("b", *program.image_shape)],
            input_names=["images"],
            output_names=["logits"],
            model_name="model",
            opset=OPSET,
            return_mode="file",
            output_path=str(file),
        )


def _run(file: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL  # failures are raised as well
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what jax2onnx says about optional packages that it skips, and its use of an older Flax."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"jax2onnx\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _converter_errors(program: Program) -> Iterator[None]:
    """One line for what the two libraries cannot do; they raise many kinds of errors, not in words for our users."""
    try:
        yield
    except (OSError, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        variant = program.metadata.model.settings.variant
        fix = "export it as stablehlo or saved_model"
        raise UserError(f"{variant} cannot become ONNX ({type(error).__name__}: {reason}): {fix}") from error
