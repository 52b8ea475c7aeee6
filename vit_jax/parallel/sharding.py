"""Logical axis names -> mesh axes: shardings of parameters, optimizer state, batches and activations."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vit_jax.parallel.settings import BATCH_AXES
from vit_jax.trees import like, named_leaves

# One table for parameters and activations alike. `embed` is split over fsdp in parameters only: in activations
# the batch already is.
PARAMETER_RULES: Mapping[str, str] = {
    "embed": "fsdp",
    "mlp": "tensor",
    "heads": "tensor",
    "classes": "tensor",
}
ACTIVATION_RULES: Mapping[str, str | tuple[str, ...]] = {
    "batch": BATCH_AXES,
    "mlp": "tensor",
    "heads": "tensor",
    "classes": "tensor",
}

# Below this many elements a parameter is cheaper to copy than to gather.
MIN_SHARDED_ELEMENTS = 4096


def parameter_spec(shape: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh) -> PartitionSpec:
    """The PartitionSpec of one parameter: each dimension by its logical name.

    A dimension that the mesh axis does not divide, and every dimension of a small parameter, stays whole.
    """
    if math.prod(shape) < MIN_SHARDED_ELEMENTS:
        return PartitionSpec()
    return PartitionSpec(
        *(_fitting(PARAMETER_RULES.get(axis), size, mesh) for axis, size in zip(axes, shape, strict=True))
    )


def _fitting(axis: str | tuple[str, ...] | None, size: int, mesh: Mesh) -> str | tuple[str, ...] | None:
    if axis is None:
        return None
    parts = math.prod(mesh.shape[a] for a in ((axis,) if isinstance(axis, str) else axis))
    return axis if parts > 1 and size % parts == 0 else None


def state_shardings(
    state: Any, shapes: dict[str, tuple[int, ...]], axes: dict[str, tuple[str, ...]], mesh: Mesh
) -> Any:
    """A NamedSharding for every leaf of a training state.

    Leaves that mirror a parameter (the parameter itself, its moments, its average) carry the parameter's name at the
    end of theirs and its shape; they are laid out like it. Everything else is replicated.

    Args:
      state: pytree of arrays or ShapeDtypeStructs.
      shapes: {parameter name: shape}.
      axes: {parameter name: logical axes}.
      mesh: where.
    """
    specs = {name: parameter_spec(shapes[name], axes[name], mesh) for name in shapes}

    def spec(name: str, leaf: Any) -> PartitionSpec:
        parts = name.split("/")
        for start in range(len(parts)):
            parameter = "/".join(parts[start:])
            if shapes.get(parameter) == leaf.shape:
                return specs[parameter]
        return PartitionSpec()

    named = {name: NamedSharding(mesh, spec(name, leaf)) for name, leaf in named_leaves(state).items()}
    return like(state, named)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over all batch axes, every other dimension whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def constrain_on(mesh: Mesh) -> Callable[[jax.Array, tuple[str, ...]], jax.Array]:
    """The `constrain` argument of `Model.apply` for this mesh."""

    def constrain(x: jax.Array, names: tuple[str, ...]) -> jax.Array:
        axes = [_fitting(ACTIVATION_RULES.get(name), size, mesh) for name, size in zip(names, x.shape, strict=True)]
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*axes)))

    return constrain


def bytes_per_device(abstract: Any) -> tuple[int, int]:
    """(bytes of a state on one device, those of them that every device holds), from shapes and shardings alone."""
    local = whole = 0
    for leaf in jax.tree.leaves(abstract):
        size = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        local += size
        whole += size if leaf.sharding.is_fully_replicated else 0
    return local, whole


def on_mesh(tree: Any, shardings: Any) -> Any:
    """Host arrays, the same on every process, as global arrays; each device gets its own part only."""
    return jax.tree.map(lambda a, s: jax.make_array_from_callback(a.shape, s, lambda index: a[index]), tree, shardings)
