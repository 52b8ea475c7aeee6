"""Reads the text of a compiled program (optimised HLO) into computations and instructions."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_ARRAY = re.compile(r"([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_BITS = re.compile(r"(?:[a-z]+?)(\d+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """Type, shape and place of an array.

    Attributes:
      dtype: as HLO writes it: `bf16`, `f32`, `pred`.
      shape: of one device's part.
      minor_to_major: the dimensions, fastest first; empty if the text does not say.
      tile: the block that the fastest dimensions are padded to, as `T(8,128)`; empty for none.
      space: 0 is the device's main memory; on TPUs 1 is the fast memory on the chip.
    """

    dtype: str
    shape: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def bytes(self) -> int:
        """Memory it takes, with the padding of its tile."""
        shape = list(self.shape)
        # The last of the tile's sizes belongs to the fastest dimension.
        for dimension, size in zip(self.minor_to_major, reversed(self.tile), strict=False):
            shape[dimension] = -(-shape[dimension] // size) * size
        return math.ceil(math.prod(shape) * _bits(self.dtype) / 8)


def _bits(dtype: str) -> int:
    if dtype in ("token", "opaque"):
        return 0
    found = _BITS.match(dtype)
    return int(found[1]) if found else 8  # `pred`


def arrays(text: str) -> list[Array]:
    """The arrays of a shape, of a tuple's members in order."""
    return [_array(*found.groups()) for found in _ARRAY.finditer(text)]


def _array(dtype: str, shape: str, layout: str | None) -> Array:
    order, _, rest = (layout or "").partition(":")
    tile = re.match(r"T\(([\d,]+)\)", rest)
    space = re.search(r"S\((\d+)\)", rest)
    sizes = _numbers(tile[1]) if tile else ()
    return Array(dtype, _numbers(shape), _numbers(order), sizes, int(space[1]) if space else 0)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: without the percent sign.
      opcode: `fusion`, `all-gather-start`, ...
      shape: text of the result's shape.
      operands: names of what it reads.
      inside: text between the parentheses.
      attributes: text after them.
      root: whether it is the computation's result.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    inside: str
    attributes: str
    root: bool

    @functools.cached_property
    def results(self) -> list[Array]:
        """What it gives."""
        return arrays(self.shape)

    @property
    def bytes(self) -> int:
        """Of its results."""
        return sum(array.bytes for array in self.results)

    def attribute(self, pattern: str) -> str | None:
        """The first group of `pattern` where it first occurs among the attributes."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else None

    def called(self) -> Iterator[str]:
        """Names of the computations it runs, other than those it applies to elements."""
        for found in re.finditer(r"(?:calls|body|condition|(?:true|false)_computation)=%?([\w.\-]+)", self.attributes):
            yield found[1]
        branches = self.attribute(r"branch_computations=\{([^}]*)\}")
        yield from _NAME.findall(branches or "")
        if self.opcode == "call":
            yield from _NAME.findall(self.attribute(r"to_apply=(%?[\w.\-]+)") or "")


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
      computations: by name, each its instructions by name in order.
      entry: name of the one that runs.
    """

    computations: Mapping[str, Computation]
    entry: str

    def instructions(self) -> Iterator[Instruction]:
        """Of all computations."""
        for computation in self.computations.values():
            yield from computation.values()


def parse(text: str) -> Module:
    """Reads what `compiled.as_text()` gives.

    Raises:
      ValueError: it has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif start := _INSTRUCTION.match(line):
            instruction = _instruction(line[start.end() :], start[2], bool(start[1]))
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("the text has no ENTRY computation")
    return Module(computations, entry)


def _instruction(text: str, name: str, root: bool) -> Instruction:
    """From `f32[8]{0} add(%a, %b), metadata=...`."""
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing - 1]
    return Instruction(name, rest[:opening], shape, tuple(_NAME.findall(inside)), inside, rest[closing:], root)


def _closing(text: str, start: int) -> int:
    """The place behind the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.end()
    return len(text)
