"""Identical layers stacked along a leading axis: how they are made, and how they are run one after another."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

Layer = TypeVar("Layer", bound=nnx.Module)
Carry = TypeVar("Carry")
Inputs = TypeVar("Inputs")
Out = TypeVar("Out")


def _convolutions(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive is jax.lax.conv_general_dilated_p


# What forward keeps for backward; "none" in `run` keeps everything.
REMAT_POLICIES: dict[str, Callable[..., Any]] = {
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _convolutions
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}


def stacked(make: Callable[[nnx.Rngs], Layer], depth: int, rngs: nnx.Rngs) -> Layer:
    """`depth` modules as one module whose arrays have a leading layer axis.

    Args:
      make: builds one layer.
      depth: the number of layers.
      rngs: split, so that every layer has random values of its own.
    """
    return nnx.split_rngs(splits=depth)(nnx.vmap(make, in_axes=0, out_axes=0))(rngs)


def rematerialized(call: Callable[..., Out], remat: str, *, prevent_cse: bool = True) -> Callable[..., Out]:
    """`call` that recomputes in backward what `remat` says (`none`, `dots` or `full`, see `ModelSettings`).

    Args:
      call: a function of pytrees of arrays.
      remat: `none` returns `call` itself.
      prevent_cse: keeps XLA from merging the two computations; not needed within a scan (see `jax.checkpoint`).
    """
    if remat == "none":
        return call
    return jax.checkpoint(call, policy=REMAT_POLICIES[remat], prevent_cse=prevent_cse)


def run(
    body: Callable[[Carry, Inputs], tuple[Carry, Out]],
    carry: Carry,
    layers: Inputs,
    depth: int,
    *,
    scan: bool,
    remat: str,
) -> tuple[Carry, Out]:
    """Applies `body` to the layers in order, like `jax.lax.scan`.

    Args:
      body: (carry, layer) -> (carry, out); the new carry has the old one's shapes and dtypes.
      carry: what the first layer gets.
      layers: a pytree of arrays with a leading layer axis: the module from `stacked` and what else differs by layer,
        such as random keys.
      depth: the number of layers, at least 1.
      scan: loop in the compiled program; otherwise unrolled, same numbers.
      remat: what backward recomputes of each layer, see `rematerialized`.

    Returns:
      The last carry, and the layers' outs stacked along a leading axis (None where a body gives None).

    Raises:
      ValueError: an array of `layers` whose leading axis is not `depth`.
    """
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(layers)}
    if lengths - {depth}:
        raise ValueError(f"the layers are stacked {sorted(lengths)} deep, not {depth}")
    body = rematerialized(body, remat, prevent_cse=not scan)
    if scan:
        return jax.lax.scan(body, carry, layers, length=depth)
    outs = []
    for layer in _layers(layers, depth):
        carry, out = body(carry, layer)
        outs.append(out)
    return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *outs)


def _layers(layers: Inputs, depth: int) -> list[Inputs]:
    """The layers one by one; their gradients are put together once.

    The gradient of plain indexing is an array of all layers, zero but for one, for each of them. XLA for GPUs finds the
    way out itself; for CPUs S/16 at 64 px had 195 such arrays, and 929 MiB of temporaries where 114 suffice.
    """
    leaves, tree = jax.tree.flatten(layers)
    parts = [
        _split(leaf, depth) if jnp.issubdtype(leaf.dtype, jnp.inexact) else [leaf[i] for i in range(depth)]
        for leaf in leaves
    ]
    return [jax.tree.unflatten(tree, of_layer) for of_layer in zip(*parts, strict=True)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _split(leaf: jax.Array, depth: int) -> tuple[jax.Array, ...]:
    """(depth, ...) -> `depth` arrays (...)."""
    return tuple(leaf[i] for i in range(depth))


def _split_forward(leaf: jax.Array, depth: int) -> tuple[tuple[jax.Array, ...], None]:
    return _split(leaf, depth), None


def _split_backward(_: int, __: None, gradients: tuple[jax.Array, ...]) -> tuple[jax.Array]:
    return (jnp.stack(gradients),)


_split.defvjp(_split_forward, _split_backward)
