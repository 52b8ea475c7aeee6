"""One batch: records are fetched, parsed, decoded and finished, and bad ones replaced or masked."""

import contextlib
import dataclasses
import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from vit_jax.data.order import mix
from vit_jax.data.picture import reason
from vit_jax.data.preprocess import Program
from vit_jax.data.sources import Source
from vit_jax.errors import UserError

_REPLACEMENTS = 20  # examples tried in place of a bad one
_HELD = 16  # batches whose memory may be used again; more than are under way at once
# TensorFlow may quote a broken record in its message, which Python then cannot read.
_ERRORS = (tf.errors.OpError, UnicodeDecodeError)
Bad = dict[int, str]  # row -> what is wrong with its image


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a batch is to hold.

    Attributes:
      index: int64 (rows,), of the examples.
      seeds: int32 (rows, 2), of their augmentation.
      mask: bool (rows,), False on padding.
      position: int64 (rows,), in the training stream; None in evaluation.
    """

    index: np.ndarray
    seeds: np.ndarray
    mask: np.ndarray
    position: np.ndarray | None = None


class Loader:
    """Makes batches of a source.

    Args:
      source: of records.
      program: what happens to them.
      threads: that decode.

    Attributes:
      types: TensorFlow's types of what `batch` gives.
    """

    def __init__(self, source: Source, program: Program, threads: int):
        self._source, self._program, self._threads = source, program, threads
        self._ragged = None in program.host_shape
        self._parse = Parser(source, program, threads)
        self._memory = Memory()
        image: Any = tf.string if self._ragged else tf.uint8
        self.types = (image, tf.int32, self._parse.label.dtype, tf.int32, tf.bool, tf.string, tf.int64)

    def batch(self, rows: Rows, seed: int) -> tuple[Any, ...]:
        """Reads and decodes, in Python; runs in several threads at once.

        Returns:
          images before the graph operations (bytes of pixels where their shapes differ), shapes of the images, labels,
          seeds, mask, what is wrong with images that cannot be used, and how many images there were.
        """
        out = None if self._ragged else self._memory.take((len(rows.index), *self._program.host_shape))
        images, labels, bad = self._load(rows.index, rows.seeds, out)
        bad = {row: why for row, why in bad.items() if rows.mask[row]}
        messages = [f"{self._source.describe(int(rows.index[row]))!r} {bad[row]}".encode() for row in sorted(bad)]
        mask = rows.mask.copy()
        if rows.position is None:
            mask[list(bad)] = False
        elif bad:
            self._replace(images, labels, bad, rows, seed)
        shapes = np.array([image.shape for image in images], np.int32)
        if self._ragged:
            images = np.array([image.tobytes() for image in images], object)
        return images, shapes, labels, rows.seeds, mask, np.array(messages, object), np.int64(rows.mask.sum())

    def _load(self, index: np.ndarray, seeds: np.ndarray, out: np.ndarray | None = None) -> tuple[Any, np.ndarray, Bad]:
        """(images, labels, what is wrong with which rows) of these examples; the images in `out` if it is given."""
        records, labels = self._source.fetch(index)
        records, labels, unfit = self._parse(records, labels, seeds)
        images, bad = self._program.host.batch(records, seeds, self._threads, out)
        return images, labels, bad | unfit

    def _replace(self, images: Any, labels: np.ndarray, bad: Bad, rows: Rows, seed: int) -> None:
        """Puts other examples into these rows: a hash of seed and position, so the same on any number of hosts."""
        assert rows.position is not None
        for attempt in range(_REPLACEMENTS):
            which = np.array(list(bad))
            hashed = mix(seed, rows.position[which], attempt, 0xBAD)
            index = (hashed % np.uint64(len(self._source))).astype(np.int64)
            found, found_labels, still = self._load(index, rows.seeds[which])
            for row, image, label in zip(which, found, found_labels, strict=True):
                images[row], labels[row] = image, label
            bad = {int(which[row]): why for row, why in still.items()}
            if not bad:
                return
        row, why = next(iter(bad.items()))
        where = self._source.describe(int(rows.index[row]))
        raise UserError(f"image {where!r} cannot be used, nor can {_REPLACEMENTS} tried in its place; the last {why}")

    def finish(self, found: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """The graph operations, and a name for everything: `image`, `label`, `mask`, `bad`, `seen`."""
        images, shapes, labels, seeds, mask, bad, seen = found
        program = self._program
        images.set_shape((None,) if self._ragged else (None, *program.host_shape))
        if program.rest:

            def one(values: tuple[tf.Tensor, ...]) -> tf.Tensor:
                image, shape, seed = values
                if self._ragged:
                    image = tf.ensure_shape(tf.reshape(tf.io.decode_raw(image, tf.uint8), shape), program.host_shape)
                seed.set_shape((2,))
                return program.finish(image, seed)

            spec = tf.TensorSpec((*program.size, program.channels), tf.uint8)
            shapes.set_shape((None, 3))
            values = images, shapes, seeds
            images = tf.map_fn(one, values, fn_output_signature=spec, parallel_iterations=self._threads)
        return {"image": images, "label": labels, "mask": mask, "bad": bad, "seen": seen}


class Memory:
    """Arrays for batches, whose memory is used again as soon as nobody looks at the last batch in it.

    Fresh memory has to be cleared page by page by the system, which takes longer than to resize images into it.
    """

    def __init__(self) -> None:
        self._held: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[Any, ...]) -> np.ndarray:
        """An uninitialised uint8 array; it starts at a multiple of 64 bytes, so that TensorFlow takes it uncopied."""
        size = math.prod(shape)
        with self._lock:
            memory = next(
                (self._held[n] for n in range(len(self._held)) if _references(self._held, n) == _UNUSED), None
            )
            if memory is None or memory.size < size + 64:
                memory = np.empty(size + 64, np.uint8)
                if len(self._held) < _HELD:
                    self._held.append(memory)
            start = -memory.ctypes.data % 64
            return memory[start : start + size].reshape(shape)


def _references(arrays: list[np.ndarray], number: int) -> int:
    """How many objects refer to an array; each view of it does."""
    return sys.getrefcount(arrays[number])


_UNUSED = _references([np.empty(1)], 0)  # what Python itself counts differs between versions


class Parser:
    """The traced part of a source and the label operations, on batches.

    Attributes:
      label: type and shape of a label in the end.
    """

    def __init__(self, source: Source, program: Program, threads: int):
        shape, dtype = ((len(source.label_names),), tf.float32) if source.multi_label else ((), tf.int32)
        specs = tf.TensorSpec((), tf.string), tf.TensorSpec(shape, dtype), tf.TensorSpec((2,), tf.int32)
        idle = False

        # Plain TensorFlow, not rewritten by AutoGraph: see `compile_steps`.
        @tf.autograph.experimental.do_not_convert
        def one(record: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            nonlocal idle
            features = program.labels(source.parse(record, label), seed)
            image, found = features["image"], features["label"]
            idle = image is record and found is label
            return image, tf.cast(found, tf.float32 if found.dtype.is_floating else tf.int32)

        self._one = tf.function(one, autograph=False, input_signature=specs)
        traced = self._one.get_concrete_function()
        image, self.label = (tf.TensorSpec(t.shape, t.dtype) for t in traced.structured_outputs)
        self._many: Callable[..., Any] | None = None
        if not idle:
            alike = all(_has_fixed_sizes(op) for op in traced.graph.get_operations())
            self._many = self._on_batches(specs, (image, self.label), alike, threads)

    def _on_batches(
        self, takes: tuple[Any, ...], gives: tuple[Any, ...], alike: bool, threads: int
    ) -> Callable[..., Any]:
        """`one` for all rows, at once where TensorFlow can do that: four times as fast as one after the other."""

        def one(row: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
            return self._one(*row)

        def at_once(*values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.vectorized_map(one, values, fallback_to_while_loop=False)

        def in_turn(*values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.map_fn(one, values, fn_output_signature=gives, parallel_iterations=threads)

        signature = [tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in takes]
        if alike:
            with contextlib.suppress(ValueError, NotImplementedError):  # not all operations can be vectorised
                return tf.function(at_once, autograph=False).get_concrete_function(*signature)
        return tf.function(in_turn, autograph=False).get_concrete_function(*signature)

    def __call__(
        self, records: list[bytes], labels: np.ndarray, seeds: np.ndarray
    ) -> tuple[list[bytes], np.ndarray, Bad]:
        """(encoded images, labels, what is wrong with which records); bad records have no image and label 0."""
        if self._many is None:
            return records, labels, {}
        try:
            images, found = self._many(np.array(records, object), labels, seeds)
            return images.numpy().tolist(), found.numpy(), {}
        except _ERRORS:
            return self._one_by_one(records, labels, seeds)

    def _one_by_one(
        self, records: list[bytes], labels: np.ndarray, seeds: np.ndarray
    ) -> tuple[list[bytes], np.ndarray, Bad]:
        images = [b""] * len(records)
        found = np.zeros((len(records), *self.label.shape), self.label.dtype.as_numpy_dtype)
        bad: Bad = {}
        for row, record in enumerate(records):
            try:
                image, found[row] = self._one(tf.constant(record), tf.constant(labels[row]), tf.constant(seeds[row]))
                images[row] = image.numpy()
            except _ERRORS as error:
                bad[row] = f"has a record that cannot be used ({reason(error)})"
        return images, found, bad


def _has_fixed_sizes(operation: tf.Operation) -> bool:
    """Whether this is no parser, or one that gives the same sizes for all records: vectorised, it pads them to one."""
    if operation.type != "ParseExampleV2":  # what `tf.io.parse_single_example` becomes
        return not operation.type.startswith("Parse")
    lists = operation.get_attr("num_sparse") or operation.get_attr("ragged_value_types")
    return not lists and all(tf.TensorShape(s).is_fully_defined() for s in operation.get_attr("dense_shapes"))
