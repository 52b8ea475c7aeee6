"""The register of pre-processing operations, which strings such as `decode|inception_crop|flip` name.

There are three kinds, all plain functions whose annotated defaults are the arguments that a string may give:

* host operations `(picture, context, *arguments)` change a `vit_jax.data.picture.Picture`: geometry, which needs no
  pixels until the end; they run in NumPy, OpenCV and libjpeg-turbo on a pool of threads;
* graph operations `(image, context, *arguments) -> image` are TensorFlow on uint8 (height, width, channels);
* label operations `(features, context, *arguments) -> features` are TensorFlow on the parsed record, before the picture
  is decoded and wherever they stand in the string.

A `ValueError` of an operation says which argument is impossible. Randomness comes from the context alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Context:
    """What a graph or label operation may know besides its image or record.

    Attributes:
      size: (height, width) that the model wants.
      channels: that the model wants.
      seed: int32 tensor of shape (2,), different for every example, epoch and operation.
    """

    size: tuple[int, int]
    channels: int
    seed: tf.Tensor


class HostContext(NamedTuple):
    """What a host operation may know besides its picture.

    Attributes:
      size: (height, width) that the model wants.
      channels: that the model wants.
      draws: uniform random numbers in [0, 1), as many as the operation asked for, different for every example, epoch
        and operation.
    """

    size: tuple[int, int]
    channels: int
    draws: Sequence[float]


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG; adds up to 1, so gray stays as it is
OPS: dict[str, Callable[..., Any]] = {}
LABEL_OPS: set[Callable[..., Any]] = set()
HOST_OPS: dict[Callable[..., Any], int] = {}  # with the number of draws
F = TypeVar("F", bound=Callable[..., Any])


def uniform(context: Context, number: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """The draws of a graph operation, float32 (number,); always the same ones for a context."""
    return tf.random.stateless_uniform((number,), context.seed, low, high)


def op(function: F) -> F:
    """Registers a graph operation under its function's name."""
    OPS[function.__name__] = function
    return function


def label_op(function: F) -> F:
    """Registers a label operation under its function's name."""
    LABEL_OPS.add(function)
    return op(function)


def host_op(draws: int = 0) -> Callable[[F], F]:
    """Registers a host operation that needs so many random numbers under its function's name."""

    def register(function: F) -> F:
        HOST_OPS[function] = draws
        return op(function)

    return register
