"""Masked patch prediction (paper, appendix B.1.2): what is left out, what is asked, and the loss of each image."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.data import Dataset
from vit_jax.errors import BadSetting
from vit_jax.evaluate.classification import mean
from vit_jax.evaluate.settings import MaskedSettings
from vit_jax.evaluate.stream import evaluation_step, results
from vit_jax.models import KEEP, MASK, SWAP, Constrain, Corruption, Model, Params, cut_patches, normalize

BITS = 3  # of each colour channel
SIDE = 4  # parts of a patch along each side, of `small_colours`


def outputs(settings: MaskedSettings, stride: int, channels: int) -> int:
    """Size of the model's output for each patch.

    Args:
      settings: which target.
      stride: side of a patch in pixels.
      channels: of the images.
    """
    colours = 2 ** (BITS * channels)
    return {
        "mean_colour": colours,
        "small_colours": SIDE * SIDE * colours,
        "pixels": stride * stride * channels,
    }[settings.target]


def check_patches(settings: MaskedSettings, model: Model) -> None:
    """Raises BadSetting when the patches do not tile the image, or the target does not divide them."""
    covered = tuple(cells * model.stride for cells in model.grid)
    if covered != model.image_size:
        fix = f"must be a multiple of {model.stride}, the side of a patch, so that patches cover the image"
        raise BadSetting("config.data.image_size", model.image_size, fix)
    if settings.target == "small_colours" and model.stride % SIDE:
        fix = f"needs patches whose side {SIDE} divides; variant {model.settings.variant} has {model.stride} pixels"
        raise BadSetting("config.masked.target", settings.target, fix)
    if model.grid[0] * model.grid[1] < 2:
        raise BadSetting("config.data.image_size", model.image_size, "gives a single patch; there must be others")


def corruption(key: jax.Array, images: int, patches: int, settings: MaskedSettings) -> tuple[Corruption, jax.Array]:
    """Draws what happens to the patches of each image.

    Of every image the same number of patches is corrupted, and the same numbers of those are masked and swapped.

    Returns:
      (the corruption, (images, patches) bool: which patches are to be predicted).
    """
    choice_key, donor_key = jax.random.split(key)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(choice_key, (images, patches)), axis=1), axis=1)
    corrupted = max(1, round(settings.corrupted * patches))
    masked = round(settings.masked * corrupted)
    swapped = min(masked + round(settings.swapped * corrupted), corrupted)
    action = jnp.where(rank < masked, MASK, jnp.where(rank < swapped, SWAP, KEEP))
    offset = jax.random.randint(donor_key, (images, patches), 1, patches)  # never the patch itself
    return Corruption(action, (jnp.arange(patches) + offset) % patches), rank < corrupted


def colours(pixels: jax.Array) -> jax.Array:
    """(..., c) values in 0..255 -> (...) int32 classes: the highest 3 bits of each channel, the first channel first."""
    levels = jnp.clip(jnp.floor(pixels.astype(jnp.float32) * (2**BITS / 256)), 0, 2**BITS - 1).astype(jnp.int32)
    weights = 2 ** (BITS * jnp.arange(pixels.shape[-1])[::-1])
    return (levels * weights).sum(axis=-1)


def prediction_losses(
    output: jax.Array, images: jax.Array, grid: tuple[int, int], target: str
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss and metrics of each patch, (b, patches) float32.

    Args:
      output: (b, patches, `outputs(...)`) of the model.
      images: (b, h, w, c) in 0..255, as they were before corruption.
      grid: of the patches.
      target: see `MaskedSettings`.

    Returns:
      (the loss: softmax cross-entropy, for `small_colours` the mean over the parts, or the mean squared error of
      pixels in [-1, 1]; `{"accuracy"}`: whether the colour is right, or the share of the parts).
    """
    patches = cut_patches(images, grid)
    b, n, side, _, c = patches.shape
    output = output.astype(jnp.float32)
    if target == "pixels":
        error = output - normalize(patches).reshape(b, n, -1)
        return jnp.square(error).mean(axis=-1), {}
    parts = 1 if target == "mean_colour" else SIDE
    small = patches.astype(jnp.float32).reshape(b, n, parts, side // parts, parts, side // parts, c).mean(axis=(3, 5))
    labels = colours(small).reshape(b, n, parts * parts)
    logits = output.reshape(b, n, parts * parts, -1)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    return loss.mean(axis=-1), {"accuracy": right.mean(axis=-1)}


def masked_losses(
    model: Model,
    settings: MaskedSettings,
    params: Params,
    images: jax.Array,
    key: jax.Array,
    constrain: Constrain,
    *,
    dropout: bool,
) -> dict[str, jax.Array]:
    """Loss and metrics of each image, (b,) float32: means over its corrupted patches.

    Args:
      model: with a mask token and an output for each patch.
      settings: what is corrupted and asked.
      params: of the model.
      images: (b, h, w, c) in 0..255.
      key: of corruption and dropout.
      constrain: as for `Model.apply`.
      dropout: whether it is on.
    """
    corruption_key, dropout_key = jax.random.split(key)
    grid = model.grid
    drawn, corrupted = corruption(corruption_key, images.shape[0], math.prod(grid), settings)
    drawn, corrupted = jax.tree.map(lambda x: constrain(x, ("batch", "tokens")), (drawn, corrupted))
    output = model.apply(
        params,
        normalize(images),
        dropout_key=dropout_key if dropout else None,
        constrain=constrain,
        corruption=drawn,
    )["logits"]
    loss, metrics = prediction_losses(output, images, grid, settings.target)
    weight = corrupted / corrupted.sum(axis=1, keepdims=True)
    return {name: (value * weight).sum(axis=1) for name, value in {"loss": loss, **metrics}.items()}


class MaskedPatches:
    """Loss and accuracy of masked patch prediction on a split, always with the same patches left out.

    Args:
      model: see `masked_losses`.
      settings: likewise.
      dataset: the split.
      mesh: of the job.
      batch_size: global.
      params: shardings, see `evaluation_step`.
    """

    def __init__(
        self, model: Model, settings: MaskedSettings, dataset: Dataset, mesh: Mesh, batch_size: int, params: Any = None
    ):
        self._dataset, self._mesh, self._batch_size = dataset, mesh, batch_size
        constrain = parallel.constrain_on(mesh)

        def step(params: Params, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
            each = masked_losses(model, settings, params, batch["image"], jax.random.key(0), constrain, dropout=False)
            each["examples"] = jnp.ones_like(each["loss"])
            return {name: jnp.where(batch["mask"], value, 0).sum() for name, value in each.items()}

        self._step = evaluation_step(step, mesh, params)

    def run(self, params: Params) -> dict[str, float]:
        """`{"loss", "accuracy", "examples"}`; no accuracy of `pixels`."""
        rows = parallel.host_rows(self._mesh, self._batch_size)
        batches = self._dataset.eval_batches(self._batch_size, rows)
        return mean(results(self._step, params, self._mesh, self._batch_size, batches))

    def describe(self, found: dict[str, float]) -> str:
        """`patches: accuracy 40.00%, loss 2.1, 360 images`."""
        accuracy = f"accuracy {found['accuracy']:.2%}, " if "accuracy" in found else ""
        return f"patches: {accuracy}loss {found['loss']:.4f}, {found['examples']:,.0f} images"
