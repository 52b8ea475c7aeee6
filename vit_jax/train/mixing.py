"""mixup and cutmix on the device, inside the compiled step."""

import jax
import jax.numpy as jnp

from vit_jax.models import Constrain, Params
from vit_jax.train.objectives import Objective
from vit_jax.train.settings import TrainSettings

Batch = dict[str, jax.Array]


def mixed(objective: Objective, settings: TrainSettings, classes: int) -> Objective:
    """The objective on mixed batches; without mixing in the settings, the objective itself.

    What is mixed is what the objective gets: one micro-batch. Its draws are a function of (seed, step, micro-batch),
    like dropout's.
    """
    if not (settings.mixup or settings.cutmix):
        return objective

    def run(
        params: Params, batch: Batch, key: jax.Array, constrain: Constrain
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        key, mix_key = jax.random.split(key)
        return objective(params, mix(batch, mix_key, settings, classes, constrain), key, constrain)

    return run


def mix(batch: Batch, key: jax.Array, settings: TrainSettings, classes: int, constrain: Constrain) -> Batch:
    """Each example with its partner: image and label become weighted means of both.

    mixup (arXiv 1710.09412) weights all pixels alike by lambda ~ Beta(a, a), at least 1/2, as AugReg does: the example
    keeps the larger share. cutmix (arXiv 1905.04899) takes a box of 1 - lambda of the area from the partner, about a
    uniform centre and cut off at the edges; labels are weighted by the pixels.

    Args:
      batch: `image` (b, h, w, c) uint8 or float in 0..255, `label` (b,) integers or (b, classes) floats; b even.
      key: of this batch.
      settings: how much of what, and whether all examples of the batch are mixed alike.
      classes: of soft labels.
      constrain: as for `Model.apply`.

    Returns:
      The batch with `image` float32 (b, h, w, c) in 0..255 and `label` float32 (b, classes).
    """
    image, label = batch["image"], batch["label"]
    if label.ndim == 1:
        label = jax.nn.one_hot(label, classes)
    label = constrain(label.astype(jnp.float32), ("batch", "classes"))
    rows = image.shape[0] if settings.mix_per_example else 1
    pixels, share = _shares(key, rows, image.shape[1:3], settings, constrain)
    image = _blend(image.astype(jnp.float32), partner(image).astype(jnp.float32), pixels)
    return {**batch, "image": image, "label": _blend(label, partner(label), share)}


def partner(x: jax.Array) -> jax.Array:
    """Row 2i <-> row 2i + 1: (b, ...) -> (b, ...), b even.

    Rows come in random order, so neighbours are as good as any pairing. They do not depend on the mesh, and lie on one
    device if that has an even number of rows. A single row is exchanged with the next device's; three, five, ... rows
    a device are gathered, which is right but slow.
    """
    return x.reshape(x.shape[0] // 2, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def _blend(own: jax.Array, other: jax.Array, share: jax.Array) -> jax.Array:
    return share * own + (1 - share) * other


def _shares(
    key: jax.Array, rows: int, sides: tuple[int, ...], settings: TrainSettings, constrain: Constrain
) -> tuple[jax.Array, jax.Array]:
    """What stays of the example: in each pixel, (rows, h | 1, w | 1, 1), and of its label, (rows, 1)."""
    skip_key, cut_key, mixup_key, cutmix_key, box_key = jax.random.split(key, 5)
    pixels = share = jnp.ones((rows, 1, 1, 1))
    if settings.mixup:
        weight = _beta(mixup_key, settings.mixup, rows, constrain)
        pixels = share = jnp.maximum(weight, 1 - weight)
    if settings.cutmix:
        weight = _beta(cutmix_key, settings.cutmix, rows, constrain)
        outside = 1.0 - _box(box_key, jnp.sqrt(1 - weight), sides)
        cut = jax.random.uniform(cut_key, weight.shape) < (settings.mix_switch if settings.mixup else 1.0)
        pixels = jnp.where(cut, outside, pixels)
        share = jnp.where(cut, outside.mean(axis=(1, 2), keepdims=True), share)
    skip = jax.random.uniform(skip_key, share.shape) >= settings.mix_probability
    return jnp.where(skip, 1.0, pixels), jnp.where(skip, 1.0, share).reshape(rows, 1)


def _beta(key: jax.Array, alpha: float, rows: int, constrain: Constrain) -> jax.Array:
    """(rows, 1, 1, 1) draws of Beta(alpha, alpha)."""
    # Sampling rejects in a loop, whose end devices that share the rows would have to agree on: each draws all of them.
    return constrain(jax.random.beta(key, alpha, alpha, (rows, 1, 1, 1)), ("whole",) * 4)


def _box(key: jax.Array, ratio: jax.Array, sides: tuple[int, ...]) -> jax.Array:
    """(rows, h, w, 1): whether in the box of `ratio`, (rows, 1, 1, 1), of each side about a random pixel."""
    inside = jnp.ones((), bool)
    for axis, (side, centre_key) in enumerate(zip(sides, jax.random.split(key), strict=True)):
        half = (ratio * side).astype(jnp.int32) // 2
        centre = jax.random.randint(centre_key, ratio.shape, 0, side)
        places = jnp.arange(side).reshape((1, side, 1, 1) if axis == 0 else (1, 1, side, 1))
        inside &= (places >= centre - half) & (places < centre + half)
    return inside
