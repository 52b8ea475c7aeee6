"""StableHLO by `jax.export`: for JAX, and for compilers that read StableHLO."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
from jax import export

from vit_jax.checkpoint.card import STABLEHLO, STABLEHLO_WEIGHTS
from vit_jax.checkpoint.metadata import Metadata
from vit_jax.checkpoint.programs.program import PLATFORMS, Program, publish
from vit_jax.errors import UserError
from vit_jax.models import Params

# The file is one FlatBuffer, which ends at 2 GiB; JAX warns from 2 GB on.
INSIDE_BYTES = 2 * 10**9


def export_stablehlo(
    params: Params, metadata: Metadata, path: Path, *, weights_inside: bool | None = None
) -> list[Path]:
    """Writes the folder `path` with `model.stablehlo` for CPUs, GPUs and TPUs.

    The program is `(images) -> logits` with the weights as constants, or `(weights, images) -> logits` with
    `weights.npz` beside it: float32 arrays by parameter name. Both are read by `jax.export.deserialize`, which needs
    jax and flatbuffers only. It has no gradient (`vjp_order` 0).

    Args:
      params: arrays that this process can read whole.
      metadata: describes them.
      path: a folder that is empty or does not exist.
      weights_inside: by default if they take at most 2 GB.

    Returns:
      The written files.

    Raises:
      UserError: as `publish` does; flatbuffers is missing; more than 2 GB of weights are to be inside.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("StableHLO export needs flatbuffers: pip install flatbuffers")
    program = Program.of(params, metadata)
    size = sum(array.nbytes for array in program.weights.values())
    if weights_inside and size > INSIDE_BYTES:
        raise UserError(f"weights_inside = True: {size / 1e9:.1f} GB of weights do not fit into a StableHLO file")
    inside = size <= INSIDE_BYTES if weights_inside is None else weights_inside

    def write(folder: Path) -> None:
        (folder / "model.stablehlo").write_bytes(_serialized(program, inside))
        if not inside:
            np.savez(folder / "weights.npz", allow_pickle=False, **program.weights)

    def run(folder: Path, images: np.ndarray) -> np.ndarray:
        found = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
        if inside:
            return np.asarray(found.call(images))
        with np.load(folder / "weights.npz", allow_pickle=False) as weights:
            return np.asarray(found.call(dict(weights), images))

    return publish(program, path, STABLEHLO if inside else STABLEHLO_WEIGHTS, write, run)


def _serialized(program: Program, inside: bool) -> bytearray:
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *program.image_shape), np.float32)
    if inside:
        exported = export.export(jax.jit(lambda images: program(program.weights, images)), platforms=PLATFORMS)(images)
    else:
        weights = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in program.weights.items()}
        exported = export.export(jax.jit(lambda weights, images: program(weights, images)), platforms=PLATFORMS)(
            weights, images
        )
    return exported.serialize(vjp_order=0)
