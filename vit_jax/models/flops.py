"""FLOPs of matrix products and convolutions, counted from the traced program (jaxpr).

XLA's own count sees the body of a loop once, whatever its length; this one multiplies scans out. A multiply-add is two
FLOPs. Element-wise operations, reductions, Fourier transforms and matrix decompositions are not counted.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from vit_jax.errors import UserError
from vit_jax.models.model import Model

# Primitives that multiply matrices where the traced program does not show it: Pallas, foreign and cuDNN kernels.
_OPAQUE = re.compile(
    r"pallas_call|core_map|ffi_call|tpu_custom_call|triton_kernel_call|ragged_dot_general"
    r"|(dot_product_attention|scaled_matmul).*"
)


def count_flops(function: Callable[..., Any], *args: Any, padding_taps: bool = False) -> int:
    """FLOPs of `function(*args)`, over all devices; traces it and computes nothing.

    Scans count length times, `shard_map` once a device, of the branches of a `cond` the most expensive, and a
    primitive this module does not know counts every program it holds once. Calling it on a gradient counts what remat
    recomputes, too.

    Args:
      function: anything JAX can trace.
      *args: arrays or `jax.ShapeDtypeStruct`s, as pytrees.
      padding_taps: whether to count the taps of a convolution that only ever meet zeros: those of padding and those
        between the elements of a dilated input. Frameworks' counters do, XLA's cost analysis does not.

    Raises:
      UserError: the program holds a kernel that cannot be looked into, or a while loop of unknown length with matrix
        products in it.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr, padding_taps)


def forward_flops(model: Model, *, padding_taps: bool = False) -> int:
    """FLOPs of one image's way through the model, without classifier and pre-logits.

    Half of it with `padding_taps=True` is the usual "multiply-adds" of model tables.

    Args:
      model: scanned or unrolled, with any remat and attention kernel: the count is the same.
      padding_taps: see `count_flops`.
    """
    settings = dataclasses.replace(model.settings, pre_logits=False, scan=True, remat="none")
    if settings.resolved.encoder:
        settings = dataclasses.replace(settings, attention="plain")  # the other kernels hide their products
    backbone = dataclasses.replace(model, settings=settings, classes=0)
    params = {name: leaf for name, leaf in model.abstract_params.items() if name not in ("pre_logits", "head")}
    image = jax.ShapeDtypeStruct((1, *model.image_size, model.channels), jnp.float32)
    return count_flops(backbone.apply, params, image, padding_taps=padding_taps)


def training_flops(model: Model, images: int) -> int:
    """FLOPs of training on `images` images (examples x epochs) by the convention of the ViT paper's table 6.

    That is three forward passes an image, at the pre-training resolution, without padding taps: the table's rows are
    met within 1 % with 302,982,257 images an epoch of JFT-300M (but for two of the 18 rows, see the tests).
    """
    return 3 * forward_flops(model) * images


def _count(jaxpr: Jaxpr, padding_taps: bool) -> int:
    return sum(_equation(eqn, padding_taps) for eqn in jaxpr.eqns)


def _equation(eqn: JaxprEqn, padding_taps: bool) -> int:
    name = eqn.primitive.name
    if name == "dot_general":
        return 2 * _dot(eqn)
    if name == "conv_general_dilated":
        return 2 * _convolution(eqn, padding_taps)
    if _OPAQUE.fullmatch(name):
        raise UserError(f'FLOPs of {name} cannot be counted: trace the model with model.attention="plain"')
    inside = [_count(jaxpr, padding_taps) for jaxpr in _programs(tuple(eqn.params.values()))]
    if not any(inside):
        return 0
    return max(inside) if name == "cond" else _repeats(eqn) * sum(inside)


def _programs(found: Any) -> Iterator[Jaxpr]:
    """Every jaxpr among a primitive's parameters, which are hashable: tuples are the only containers."""
    if isinstance(found, ClosedJaxpr):
        yield found.jaxpr
    elif isinstance(found, Jaxpr):
        yield found
    elif isinstance(found, tuple):
        for item in found:
            yield from _programs(item)


def _repeats(eqn: JaxprEqn) -> int:
    """How often the program inside `eqn` runs."""
    match eqn.primitive.name:
        case "scan":
            return eqn.params["length"]
        case "while":
            return _trips(eqn)
        case "shard_map":
            return math.prod(eqn.params["mesh"].shape[axis] for axis in eqn.params["newly_manual_axes"])
    return 1


def _trips(eqn: JaxprEqn) -> int:
    """The length of a `fori_loop` with constant bounds that was traced as a while loop (most are scans)."""
    params = eqn.params
    cond, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
    carried, old, new = cond.invars[params["cond_nconsts"] :], body.invars[params["body_nconsts"] :], body.outvars
    start: list[Any] = eqn.invars[params["cond_nconsts"] + params["body_nconsts"] :]
    if [test.primitive.name for test in cond.eqns] == ["lt"] and all(v in carried for v in cond.eqns[0].invars):
        i, end = (carried.index(v) for v in cond.eqns[0].invars)
        sums = [e.invars for e in body.eqns if e.primitive.name == "add" and new[i] in e.outvars]
        by_one = any(a is old[i] and isinstance(b, Literal) and b.val == 1 for a, b in sums)
        if by_one and new[end] is old[end] and isinstance(start[i], Literal) and isinstance(start[end], Literal):
            return max(0, int(start[end].val) - int(start[i].val))
    raise UserError("FLOPs of a while loop of unknown length cannot be counted: use lax.scan or a constant fori_loop")


def _dot(eqn: JaxprEqn) -> int:
    """Multiply-adds: one for each output element and contracted index."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = _shape(eqn.invars[0])
    return math.prod(_shape(eqn.outvars[0])) * math.prod(left[d] for d in contracted)


def _convolution(eqn: JaxprEqn, padding_taps: bool) -> int:
    """Multiply-adds: (batch, output feature, input feature of its group) times the taps of each spatial dimension."""
    params = eqn.params
    numbers = params["dimension_numbers"]
    image, kernel, out = (_shape(v) for v in (*eqn.invars, *eqn.outvars))
    # Each spec is (batch or output feature, feature or input feature, spatial...) as positions in the shape.
    total = out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for d, (low, _) in enumerate(params["padding"]):
        outputs, taps = out[numbers.out_spec[d + 2]], kernel[numbers.rhs_spec[d + 2]]
        if padding_taps:
            total *= outputs * taps
            continue
        stride, dilation = params["window_strides"][d], params["rhs_dilation"][d]
        place = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - low
        gap = params["lhs_dilation"][d]  # the input has an element at every gap-th place
        real = (place >= 0) & (place <= (image[numbers.lhs_spec[d + 2]] - 1) * gap) & (place % gap == 0)
        total *= int(real.sum())
    return total


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
