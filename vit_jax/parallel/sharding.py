"""Logical axis names -> mesh axes: shardings of parameters, optimizer state, batches and activations."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from vit_jax.parallel.settings import BATCH_AXES
from vit_jax.trees import like, named_leaves

# Where only the sizes of the axes count, a mesh needs no devices.
AnyMesh = Mesh | AbstractMesh

# One table for parameters and activations alike. `embed` is split over fsdp in parameters only: in activations
# the batch already is. Weight standardisation sums over all but `conv_out`, so that is what a convolution splits.
PARAMETER_RULES: Mapping[str, str | tuple[str, ...]] = {
    "embed": "fsdp",
    "conv_out": "fsdp",
    "patch_embed": ("fsdp", "tensor"),
    "mlp": "tensor",
    "heads": "tensor",
    "classes": "tensor",
}
ACTIVATION_RULES: Mapping[str, str | tuple[str, ...]] = {
    "batch": BATCH_AXES,
    "patch_embed": "tensor",
    "mlp": "tensor",
    "heads": "tensor",
    "classes": "tensor",
}

# Below this many elements a parameter is cheaper to copy than to gather.
MIN_SHARDED_ELEMENTS = 4096


def parameter_spec(shape: tuple[int, ...], axes: tuple[str, ...], mesh: AnyMesh) -> PartitionSpec:
    """The PartitionSpec of one parameter: each dimension by its logical name.

    A dimension that the mesh axis does not divide, and every dimension of a small parameter, stays whole.
    """
    if math.prod(shape) < MIN_SHARDED_ELEMENTS:
        return PartitionSpec()
    return PartitionSpec(
        *(_fitting(PARAMETER_RULES.get(axis), size, mesh) for axis, size in zip(axes, shape, strict=True))
    )


def _fitting(axes: str | tuple[str, ...] | None, size: int, mesh: AnyMesh) -> str | tuple[str, ...] | None:
    """Those of the mesh axes that, one after the other, divide the dimension."""
    chosen, parts = [], 1
    for axis in _as_tuple(axes):
        if mesh.shape[axis] > 1 and size % (parts * mesh.shape[axis]) == 0:
            chosen.append(axis)
            parts *= mesh.shape[axis]
    return tuple(chosen) if len(chosen) > 1 else chosen[0] if chosen else None


def _as_tuple(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()


def undivided(shapes: dict[str, tuple[int, ...]], axes: dict[str, tuple[str, ...]], mesh: AnyMesh) -> list[str]:
    """What the mesh was asked to split and cannot: `heads: 3 do not divide by tensor 2 (8 parameters)`.

    Args:
      shapes: {parameter name: shape}.
      axes: {parameter name: logical axes}.
      mesh: where.
    """
    found: dict[tuple[str, int, str], list[str]] = {}
    for name, shape in shapes.items():
        if math.prod(shape) < MIN_SHARDED_ELEMENTS:
            continue
        for logical, size in zip(axes[name], shape, strict=True):
            fitting = _as_tuple(_fitting(PARAMETER_RULES.get(logical), size, mesh))
            for axis in _as_tuple(PARAMETER_RULES.get(logical)):
                if mesh.shape[axis] > 1 and axis not in fitting:
                    found.setdefault((logical, size, axis), []).append(name)
    return [
        f"{logical}: {size:,} do not divide by {axis} {mesh.shape[axis]} "
        f"({names[0] if len(names) == 1 else f'{len(names)} parameters'})"
        for (logical, size, axis), names in found.items()
    ]


def state_shardings(
    state: Any, shapes: dict[str, tuple[int, ...]], axes: dict[str, tuple[str, ...]], mesh: AnyMesh
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


@dataclasses.dataclass(frozen=True)
class ActivationSharding:
    """The `constrain` argument of `Model.apply` for a mesh: splits activations by the names of their axes.

    An axis that the mesh does not divide stays whole.
    """

    mesh: Mesh

    @property
    def platform(self) -> str:
        """`cpu`, `gpu` or `tpu`; also of devices that are only described to an ahead-of-time compiler."""
        return self.mesh.devices.flat[0].platform

    @property
    def device_kind(self) -> str:
        """What JAX calls the mesh's devices."""
        return self.mesh.devices.flat[0].device_kind

    def _spec(self, sizes: Iterable[int], names: tuple[str, ...]) -> PartitionSpec:
        pairs = zip(names, sizes, strict=True)
        return PartitionSpec(*(_fitting(ACTIVATION_RULES.get(name), size, self.mesh) for name, size in pairs))

    def __call__(self, x: jax.Array, names: tuple[str, ...]) -> jax.Array:
        """`x`, constrained to lie on the mesh as the activation rules say."""
        x = jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, self._spec(x.shape, names)))
        if self.platform == "gpu" and x.ndim > 1:
            # XLA may choose another order of axes for a matrix product, and then copies around the attention kernel.
            x = self.in_order(x, names)
        return x

    def in_order(self, x: jax.Array, names: tuple[str, ...]) -> jax.Array:
        """`x`, its axes in memory in their own order on every device."""

        def pinned(part: jax.Array) -> jax.Array:
            return with_layout_constraint(part, Layout(tuple(range(part.ndim))))

        if self.mesh.size == 1:
            return pinned(x)
        # XLA does not split what pins the order: elsewhere it gathers the whole of `x` first. Unlike `per_device` JAX
        # is told which devices hold the same part, or backward would add up their gradients and divide by their number.
        spec = self._spec(x.shape, names)
        return jax.shard_map(pinned, mesh=self.mesh, in_specs=spec, out_specs=spec, check_vma=True)(x)

    def per_device(
        self,
        function: Callable[..., jax.Array],
        names_in: tuple[tuple[str, ...], ...],
        names_out: tuple[str, ...],
    ) -> Callable[..., jax.Array]:
        """`function`, run on each device's part of its arguments.

        Args:
          function: arrays to an array; must treat the axes that are split independently.
          names_in: axis names of each argument; an argument's axis may have size 1 where another's is split.
          names_out: axis names of the result; an axis named like one of an argument is as long as that.

        Gradients are added up over the devices that hold the same part, as over `tensor` where it does not divide the
        heads: right, but for rounding, and slower.
        """

        def run(*arrays: jax.Array) -> jax.Array:
            sizes: dict[str, int] = {}
            for x, names in zip(arrays, names_in, strict=True):
                for name, size in zip(names, x.shape, strict=True):
                    sizes[name] = max(size, sizes.get(name, 1))
            specs = tuple(self._spec(x.shape, names) for x, names in zip(arrays, names_in, strict=True))
            out = self._spec([sizes.get(name, 1) for name in names_out], names_out)
            # Kernels do not say along which mesh axes their results vary, so that cannot be checked.
            return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)(*arrays)

        return run


def constrain_on(mesh: Mesh) -> ActivationSharding:
    """The `constrain` argument of `Model.apply` for this mesh."""
    return ActivationSharding(mesh)


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
