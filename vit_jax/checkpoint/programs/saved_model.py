"""TensorFlow SavedModel by `jax2tf`: for TensorFlow, TensorFlow Serving and what is built on them."""

import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

from vit_jax.checkpoint.card import SAVED_MODEL
from vit_jax.checkpoint.metadata import Metadata
from vit_jax.checkpoint.programs.program import PLATFORMS, Program, publish
from vit_jax.data import import_tensorflow
from vit_jax.models import Params


def export_saved_model(params: Params, metadata: Metadata, path: Path) -> list[Path]:
    """Writes the folder `path` as a SavedModel for CPUs, GPUs and TPUs.

    Its signature `serving_default` takes `images` and gives `logits`. Weights are variables, so that their size has no
    limit; the label names are the asset `labels.txt`, one a line in the order of the logits. It has no gradient.

    Args:
      params: arrays that this process can read whole.
      metadata: describes them.
      path: a folder that is empty or does not exist.

    Returns:
      The written files.

    Raises:
      UserError: as `publish` does; TensorFlow cannot be imported.
    """
    tf = import_tensorflow("SavedModel export")
    program = Program.of(params, metadata)

    def run(folder: Path, images: np.ndarray) -> np.ndarray:
        loaded = tf.saved_model.load(str(folder))
        return loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy()

    return publish(program, path, SAVED_MODEL, lambda folder: _save(tf, program, folder), run)


def _save(tf: ModuleType, program: Program, folder: Path) -> None:
    from jax.experimental import jax2tf

    height, width, channels = program.image_shape
    function = jax2tf.convert(
        program,
        polymorphic_shapes=[None, f"(b, {height}, {width}, {channels})"],
        native_serialization_platforms=PLATFORMS,
        with_gradient=False,
    )
    module = tf.Module()
    module.weights = {name: tf.Variable(a, trainable=False, name=name) for name, a in program.weights.items()}
    module.serve = tf.function(
        lambda images: {"logits": function(module.weights, images)},
        input_signature=[tf.TensorSpec((None, *program.image_shape), tf.float32, name="images")],
        autograph=False,
    )
    with tempfile.TemporaryDirectory() as outside:  # the asset is copied from here
        if program.metadata.label_names:
            labels = Path(outside) / "labels.txt"
            labels.write_text("".join(f"{name}\n" for name in program.metadata.label_names), encoding="utf-8")
            module.labels = tf.saved_model.Asset(str(labels))
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
