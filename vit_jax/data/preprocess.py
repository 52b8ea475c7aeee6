"""Pre-processing strings: `decode|inception_crop(0.3)|flip` -> what happens to a batch of records."""

import ast
import concurrent.futures
import dataclasses
import functools
import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from vit_jax.data import affine, augment, host_ops, labels  # noqa: F401  they register their operations
from vit_jax.data.ops import HOST_OPS, LABEL_OPS, OPS, Context, HostContext
from vit_jax.data.order import mix
from vit_jax.data.picture import BadImage, Picture
from vit_jax.errors import BadSetting, did_you_mean

Step = tuple[Callable[..., Any], dict[str, Any]]
Shape = tuple[int | None, ...]

# Odd sizes on which operations are tried before any image is read: one wide, one high.
_TRIALS = ((37, 53), (61, 41))
_CHUNKS = 4  # pieces of a batch for each thread, so that they end at about the same time


def parse(text: str, field: str) -> list[Step]:
    """Splits and checks a pre-processing string.

    Args:
      text: operations separated by `|`, each `name` or `name(arguments)` with literal arguments.
      field: name of the setting, for errors.

    Raises:
      BadSetting: points at the operation and the character where it starts.
    """
    steps, start = [], 0
    for part in text.split("|"):
        try:
            steps.append(_parse_op(part.strip()))
        except ValueError as error:
            place = start + len(part) - len(part.lstrip()) + 1
            raise BadSetting(field, text, f"at character {place}, {part.strip()!r}: {error}") from None
        start += len(part) + 1
    return steps


def _parse_op(text: str) -> Step:
    try:
        tree = ast.parse(text, mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        args = [ast.literal_eval(a) for a in call.args]
        kwargs = {k.arg or "": ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, TypeError, ValueError):
        raise ValueError("write name or name(1, key=2)") from None
    if name not in OPS:
        raise ValueError(f"unknown operation; {did_you_mean(name, OPS)}")
    signature = inspect.signature(OPS[name])
    accepted = list(signature.parameters.values())[2:]
    try:
        bound = signature.replace(parameters=accepted).bind(*args, **kwargs).arguments
    except TypeError as error:
        takes = ", ".join(f"{p.name}={p.default}" for p in accepted) or "no arguments"
        raise ValueError(f"{error}; it takes {takes}") from None
    for key, value in bound.items():
        wanted = signature.parameters[key].annotation
        if not (type(value) is wanted or (wanted is float and type(value) is int)):
            raise ValueError(f"{key} = {value!r} must be {wanted.__name__}")
    return OPS[name], dict(bound)


@dataclasses.dataclass(frozen=True)
class HostStage:
    """Host operations that follow each other, on whole batches and all cores.

    Attributes:
      steps: with their places in the string.
      size: (height, width) that the model wants.
      channels: that the model wants.
    """

    steps: tuple[tuple[int, Step], ...]
    size: tuple[int, int]
    channels: int

    def one(self, source: bytes | np.ndarray, draws: Sequence[Sequence[float]]) -> Picture:
        """Applies the operations to encoded bytes, or to pixels, with the random numbers of each operation."""
        picture = Picture(source)
        for (_, (function, arguments)), numbers in zip(self.steps, draws, strict=True):
            function(picture, HostContext(self.size, self.channels, numbers), **arguments)
        return picture

    def draws(self, seeds: np.ndarray) -> list[list[list[float]]]:
        """Random numbers of each operation for each of these seeds, int32 (rows, 2): a hash of seed and place."""
        found = []
        for number, (function, _) in self.steps:
            places = np.arange(HOST_OPS[function])[None]
            hashed = mix(seeds[:, :1], seeds[:, 1:], np.full_like(places, number), places)
            found.append(((hashed >> np.uint64(11)) * 2.0**-53).tolist())
        return found

    def batch(
        self, sources: Sequence[bytes], seeds: np.ndarray, threads: int, out: np.ndarray | None = None
    ) -> tuple[np.ndarray | list[np.ndarray], dict[int, str]]:
        """Applies the operations to many pictures.

        Args:
          sources: encoded.
          seeds: int32 (rows, 2).
          threads: to use.
          out: uint8 (rows, height, width, channels) for the results; None where their shapes differ.

        Returns:
          `out` or a list of arrays, and what is wrong with which rows; these are black.
        """
        draws = self.draws(seeds)
        images: Any = [None] * len(sources) if out is None else out
        bad: dict[int, str] = {}

        def some(rows: range) -> None:
            for row in rows:
                try:
                    picture = self.one(sources[row], [numbers[row] for numbers in draws])
                    if out is None:
                        images[row] = picture.pixels()
                    else:
                        picture.write(out[row])
                except (BadImage, MemoryError, cv2.error) as error:
                    bad[row] = str(error)
                    images[row] = np.zeros((1, 1, self.channels), np.uint8) if out is None else 0

        chunk = max(1, len(sources) // (threads * _CHUNKS))
        starts = range(0, len(sources), chunk)
        list(_pool(threads).map(some, (range(i, min(i + chunk, len(sources))) for i in starts)))
        return images, bad


@functools.cache
def _pool(threads: int) -> concurrent.futures.ThreadPoolExecutor:
    """One pool for all streams of this process."""
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="vit_jax-images")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled pre-processing string.

    Attributes:
      label_steps: operations on the parsed record, with their places in the string.
      host: operations from the encoded picture up to the first graph operation.
      rest: the operations after that.
      host_shape: (height, width, channels) after `host`; None where pictures differ.
      size: (height, width) in the end.
      channels: in the end.
    """

    label_steps: tuple[tuple[int, Step], ...]
    host: HostStage
    rest: tuple[tuple[int, Step], ...]
    host_shape: Shape
    size: tuple[int, int]
    channels: int

    def labels(self, features: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        """The parsed record after all label operations."""
        for number, (function, arguments) in self.label_steps:
            features = function(features, self._context(number, seed), **arguments)
        return features

    def finish(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The operations after `host` on one image, in TensorFlow: uint8 (height, width, channels)."""
        for number, step in self.rest:
            if step[0] in HOST_OPS:
                image = self._from_graph(HostStage(((number, step),), self.size, self.channels), image, seed)
            else:
                image = step[0](image, self._context(number, seed), **step[1])
        return image

    def image(self, data: bytes, seed: np.ndarray) -> np.ndarray:
        """One encoded picture, start to end.

        Raises:
          BadImage: it cannot be used.
        """
        pictures, bad = self.host.batch([data], seed[None], 1)
        if bad:
            raise BadImage(bad[0])
        return self.finish(tf.constant(pictures[0]), tf.constant(seed)).numpy() if self.rest else pictures[0]

    def _context(self, number: int, seed: tf.Tensor) -> Context:
        return Context(self.size, self.channels, tf.random.experimental.stateless_fold_in(seed, number))

    @staticmethod
    def _from_graph(stage: HostStage, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        def run(pixels: np.ndarray, seed: np.ndarray) -> np.ndarray:
            return stage.one(pixels, [numbers[0] for numbers in stage.draws(seed[None])]).pixels()

        found = tf.numpy_function(run, [image, seed], tf.uint8)
        found.set_shape(_shape_after(stage, tuple(image.shape)))
        return found


def _shape_after(stage: HostStage, shape: Shape) -> Shape:
    """The shape that pictures of such a shape have after a stage, found by trying."""
    found = set()
    for height, width in _TRIALS:
        picture = Picture(np.zeros((shape[0] or height, shape[1] or width, stage.channels), np.uint8))
        for (_, (function, arguments)), numbers in zip(
            stage.steps, stage.draws(np.zeros((1, 2), np.int32)), strict=True
        ):
            try:
                function(picture, HostContext(stage.size, stage.channels, numbers[0]), **arguments)
            except BadImage:  # too small for this
                picture.resize(*stage.size, antialias=False)
        found.add(picture.pixels().shape)
    return tuple(sides.pop() if len(sides) == 1 else None for sides in map(set, zip(*found, strict=True)))


def compile_steps(text: str, field: str, size: tuple[int, int], channels: int) -> Program:
    """Compiles a pre-processing string.

    Raises:
      BadSetting: the string is wrong, or does not always give images of `size`.
    """
    steps = list(enumerate(parse(text, field)))
    label_steps = tuple(step for step in steps if step[1][0] in LABEL_OPS)
    image_steps = [step for step in steps if step[1][0] not in LABEL_OPS]
    first = tuple(itertools.takewhile(lambda step: step[1][0] in HOST_OPS, image_steps))
    rest = tuple(image_steps[len(first) :])
    program = Program(label_steps, HostStage(first, size, channels), rest, (None, None, channels), size, channels)
    try:
        if not first or first[0][1][0] is not OPS["decode"]:
            raise ValueError("images are bytes until they are decoded")
        after_decode = HostStage(first[1:], size, channels)
        program = dataclasses.replace(program, host_shape=_shape_after(after_decode, program.host_shape))
        found = _traced_shape(program)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()[:200]
        fix = "" if first and first[0][1][0] is OPS["decode"] else "; start with decode"
        raise BadSetting(field, text, f"does not fit together ({reason}){fix}") from None
    if found != (tf.uint8, (*size, channels)):
        got = f"{found[0].name} {found[1]}"
        raise BadSetting(field, text, f"yields {got}, not uint8 {(*size, channels)}; end with a resize or crop")
    return program


def _traced_shape(program: Program) -> tuple[tf.DType, Shape]:
    """Type and shape of what the program gives.

    Operations are plain TensorFlow. AutoGraph would only rewrite them, in a way that Python 3.13 deprecates; where that
    fails it silently leaves them as they are.
    """
    if not program.rest:
        return tf.uint8, program.host_shape
    function = tf.function(program.finish, autograph=False)
    image = tf.TensorSpec(program.host_shape, tf.uint8)
    found = function.get_concrete_function(image, tf.TensorSpec((2,), tf.int32)).structured_outputs
    return found.dtype, tuple(found.shape)
