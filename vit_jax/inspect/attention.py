"""Where a model attends: mean distance and spread of every head, rollout, and maps of single heads."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.models import Model, Params, TokenLayout, normalize

# Device memory for one batch. A block's pass takes about four times its attention weights, measured with B/16.
_BUDGET = 2**30
_MOST = 64  # images a device at once: small models need no more


@dataclasses.dataclass(frozen=True)
class AttentionStatistics:
    """What each head does on average over images and patches; arrays are float64 (layers, heads).

    All but `patch_share` leave class token and registers out, as queries and as keys, and weigh the patches anew so
    that they add up to 1. A patch whose weights on patches all underflow is not counted.

    Attributes:
      distance: mean distance in pixels between a patch and what it attends to (paper, figures 7 right and 11).
      entropy: of the weights, in bits: log2(patches) if uniform, 0 if on a single patch.
      patch_share: of the attention that patches give to patches, before it is weighed anew.
      images: how many were seen.
    """

    distance: np.ndarray
    entropy: np.ndarray
    patch_share: np.ndarray
    images: int


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """Attention over the patches of each image, as seen by the token that the classifier reads.

    That is the class token, or the first patch with pool `first`; without such a token it is the mean over all patches.

    Attributes:
      rollout: float32 (images, h, w), see `attention_rollout`; what falls on the other tokens is left out.
      heads: float32 (images, layers, heads, h, w): the attention weights.
    """

    rollout: np.ndarray
    heads: np.ndarray


def attention_statistics(
    model: Model, params: Params, images: np.ndarray, mesh: Mesh | None = None
) -> AttentionStatistics:
    """Runs the model on all images in batches; only sums over heads and layers are kept, on the device.

    Args:
      model: with attention over all tokens.
      params: its parameters; on `mesh`, if that is given.
      images: uint8 (n, h, w, c), at least one, the same on every process.
      mesh: to work on, images divided over its batch axes; None takes one device.
    """
    layout = _layout(model)
    positions = np.float32(model.stride) * np.indices(model.grid, np.float32).reshape(2, -1).T
    size = _images_at_once(model, 0)
    total: Any = None
    for found, _ in _batches(model, params, images, mesh, size, _sums, _as_found, positions):
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    sums = {name: np.asarray(value, np.float64) for name, value in total.items()}
    seen, queries = np.maximum(sums.pop("seen"), 1.0), len(images) * layout.patches
    return AttentionStatistics(
        sums["distance"] / seen, sums["entropy"] / seen, sums["patch_share"] / queries, len(images)
    )


def attention_maps(model: Model, params: Params, images: np.ndarray, mesh: Mesh | None = None) -> AttentionMaps:
    """Rollout and the maps of all heads; see `attention_statistics` for the arguments."""
    layout = _layout(model)
    front = layout.length - layout.patches
    reader = np.zeros(layout.length, np.float32)
    if layout.cls or model.settings.pooling == "first":
        reader[0 if layout.cls else front] = 1.0
    else:
        reader[front:] = 1.0 / layout.patches

    size = _images_at_once(model, layout.length**2 * 4 * _depth(model))
    parts = [
        {name: np.asarray(value)[:real, ..., front:] for name, value in found.items()}
        for found, real in _batches(model, params, images, mesh, size, _mean_and_seen, _rollout_and_heads, reader)
    ]
    rollout, heads = (np.concatenate([part[name] for part in parts]) for name in ("rollout", "heads"))
    return AttentionMaps(*(rows.reshape(*rows.shape[:-1], *model.grid) for rows in (rollout, heads)))


def attention_rollout(weights: jax.Array, reader: jax.Array) -> jax.Array:
    """How much of each token reaches `reader` through all layers (Abnar & Zuidema, arXiv 2005.00928; paper, D.7).

    The identity is added to each layer's weights for the residual connection, and rows are normalised to sum to 1; the
    layers are then multiplied: reader A_L ... A_2 A_1.

    Args:
      weights: (layers, b, n, n), averaged over heads, the first layer first.
      reader: (n,): how much of each output token is looked at.

    Returns:
      (b, n) float32.
    """

    def back(row: jax.Array, layer: jax.Array) -> tuple[jax.Array, None]:
        mixed = layer + jnp.eye(layer.shape[-1])
        mixed = mixed / mixed.sum(axis=-1, keepdims=True)
        return jnp.einsum("bq,bqn->bn", row, mixed, precision=jax.lax.Precision.HIGHEST), None

    start = jnp.broadcast_to(jnp.asarray(reader, jnp.float32), (weights.shape[1], weights.shape[-1]))
    return jax.lax.scan(back, start, weights, reverse=True)[0]


def uniform_distance(grid: tuple[int, int], stride: int) -> float:
    """The mean attention distance, in pixels, of a head that attends to all patches alike.

    Args:
      grid: (height, width) in patches.
      stride: pixels from one patch to the next.
    """
    y, x = (np.abs(np.arange(1 - side, side)) for side in grid)
    pairs = (grid[0] - y)[:, None] * (grid[1] - x)[None, :]
    return float((pairs * np.hypot(y[:, None], x[None, :])).sum() / pairs.sum() * stride)


def _layout(model: Model) -> TokenLayout:
    return TokenLayout.of(model.settings, model.grid)


def _depth(model: Model) -> int:
    encoder = model.settings.resolved.encoder
    assert encoder is not None
    return encoder.depth


def _images_at_once(model: Model, kept: int) -> int:
    """Images of one device's batch, when each also leaves `kept` bytes behind."""
    encoder = model.settings.resolved.encoder
    assert encoder is not None
    weights = encoder.heads * model.tokens**2 * 4
    return max(1, min(_MOST, _BUDGET // (4 * weights + kept)))


def _sums(weights: jax.Array, mask: jax.Array, positions: jax.Array) -> dict[str, jax.Array]:
    """Of one block's weights (b, k, n, n): what `AttentionStatistics` has, summed over images and patches."""
    front = weights.shape[-1] - len(positions)
    patches = weights[:, :, front:, front:]
    share = patches.sum(axis=-1)
    seen = (share > 0) & mask[:, None, None]
    patches = patches / jnp.where(seen, share, 1.0)[..., None]
    apart = jnp.linalg.norm(positions[:, None] - positions[None], axis=-1)
    distance = jnp.einsum("bkqp,qp->bkq", patches, apart, precision=jax.lax.Precision.HIGHEST)
    entropy = -jax.scipy.special.xlogy(patches, patches).sum(axis=-1) / jnp.log(2.0)
    each = {"distance": distance, "entropy": entropy, "patch_share": share, "seen": jnp.ones_like(share)}
    return {name: jnp.where(seen, value, 0.0).sum(axis=(0, 2)) for name, value in each.items()}


def _as_found(found: dict[str, jax.Array], constant: jax.Array) -> dict[str, jax.Array]:
    return found


def _mean_and_seen(weights: jax.Array, mask: jax.Array, reader: jax.Array) -> dict[str, jax.Array]:
    """Of one block's weights (b, k, n, n): their mean over heads, and what the reader (n,) sees by head."""
    seen = jnp.einsum("q,bkqn->bkn", reader, weights, precision=jax.lax.Precision.HIGHEST)
    return {"mean": weights.mean(axis=1), "heads": seen}


def _rollout_and_heads(found: dict[str, jax.Array], reader: jax.Array) -> dict[str, jax.Array]:
    """(b, n) and (b, layers, k, n)."""
    return {"rollout": attention_rollout(found["mean"], reader), "heads": jnp.swapaxes(found["heads"], 0, 1)}


def _batches(
    model: Model,
    params: Params,
    images: np.ndarray,
    mesh: Mesh | None,
    per_device: int,
    read: Callable[..., Any],
    finish: Callable[..., Any],
    constant: np.ndarray,
) -> Iterator[tuple[Any, int]]:
    """Yields (what is found in a batch, on every device; its real rows, which come first).

    Args:
      model, params, images, mesh: as `attention_statistics`.
      per_device: images at once.
      read: (one block's weights (b, k, n, n), mask (b,), constant) -> arrays to keep of it.
      finish: (what was kept, with a leading layer axis; constant) -> what is yielded.
      constant: an array that both functions need.
    """
    if mesh is None:
        mesh = parallel.make_mesh(parallel.MeshSettings(), jax.local_devices()[:1])
        params = jax.device_put(params, parallel.replicated(mesh))
    parts = parallel.batch_parallelism(mesh)
    size = min(per_device, -(-len(images) // parts)) * parts
    rows, step = parallel.host_rows(mesh, size), _step(model, mesh, read, finish)
    starts = range(0, len(images), size)
    local = ({"image": images[(start + rows) % len(images)], "mask": start + rows < len(images)} for start in starts)
    for start, batch in zip(starts, parallel.feed(mesh, size, rows, local), strict=True):
        yield step(params, batch, constant), min(size, len(images) - start)


@functools.lru_cache(maxsize=8)
def _step(model: Model, mesh: Mesh, read: Callable[..., Any], finish: Callable[..., Any]) -> Any:
    """The program of a batch, see `_batches`; compiled once however often a run is looked at."""
    constrain = parallel.constrain_on(mesh)

    def step(params: Params, batch: dict[str, jax.Array], constant: jax.Array) -> Any:
        def of_block(weights: jax.Array) -> Any:
            return read(weights, batch["mask"], constant)

        found = model.apply(params, normalize(batch["image"]), constrain=constrain, attention=of_block)
        return finish(found["attention"], constant)

    return jax.jit(step, out_shardings=parallel.replicated(mesh))
