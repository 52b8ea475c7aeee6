"""What the compiler says of a program: plain numbers that can be kept as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vit_jax.train import DataFacts, RunSettings


@dataclasses.dataclass(frozen=True)
class Request:
    """A program to compile.

    Attributes:
      settings: of the run.
      facts: of its data.
      topology: platform, chip, shape and slices, see `vit_jax.parallel.Topology`.
    """

    settings: RunSettings
    facts: DataFacts
    topology: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
      parameters: of the model.
      optimizer: its state.
      average: of the parameters; 0 for none.
      batch: what a step reads.
      padding: of all these on the device, and what else the program is given.
      temporaries: activations, gradients and what the compiler needs besides, at the worst moment.
      code: the program itself.
      total: at the worst moment, with the program.
    """

    parameters: int
    optimizer: int
    average: int
    batch: int
    padding: int
    temporaries: int
    code: int
    total: int


@dataclasses.dataclass(frozen=True)
class Collectives:
    """Collectives of one kind in groups of one size, in one step.

    Attributes:
      kind: `all-gather`, `reduce-scatter`, `all-reduce`, `all-to-all` or `collective-permute`.
      group: devices of a group.
      bytes: that each device sends, see `vit_jax.programs.costs`.
      count: how many.
    """

    kind: str
    group: int
    bytes: float
    count: int


@dataclasses.dataclass(frozen=True)
class Moved:
    """What one device moves in one step.

    Attributes:
      memory: bytes read from and written to its memory.
      collectives: inside a slice.
      network: bytes sent to other slices.
      cycles: that the compiler expects, without collectives; 0 where it says nothing.
      unknown_loops: whose bodies are counted once.
    """

    memory: float
    collectives: tuple[Collectives, ...]
    network: float
    cycles: float
    unknown_loops: int


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """The answer of a compiler whose program does not fit.

    Attributes:
      needed: bytes on one device.
      available: bytes on one device.
    """

    needed: float
    available: float


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A run's program on a mesh, as far as the compiler got.

    Attributes:
      kind: of the devices, as JAX calls them.
      mesh: sizes of its axes.
      hosts: processes of the job.
      whole: a line on what the mesh cannot split, or none.
      state: bytes of parameters, optimizer, average and gradients on one device.
      parameters_local: how many parameters one device has.
      saved: bytes of a checkpoint.
      parameters: of the model.
      tokens: sequence length.
      flops: of one step on all devices, with what backward recomputes.
      model_flops: of one step on all devices: three forward passes, without what is recomputed.
      steps: of the run.
      memory: of one device; None if the program does not fit.
      moved: by one device in one step; None if the program does not fit.
      too_large: by how much, if so.
      seconds: of processor time that the compiler took.
      compiler_memory: bytes that its process took at most.
      key: of the cache.
    """

    kind: str
    mesh: Mapping[str, int]
    hosts: int
    whole: tuple[str, ...]
    state: int
    parameters_local: int
    saved: int
    parameters: int
    tokens: int
    flops: int
    model_flops: int
    steps: int
    memory: Memory | None
    moved: Moved | None
    too_large: TooLarge | None
    seconds: float
    compiler_memory: int
    key: str

    @staticmethod
    def from_dict(found: dict[str, Any]) -> "Compiled":
        """From what `dataclasses.asdict` made, through JSON."""
        memory, moved, too_large = found["memory"], found["moved"], found["too_large"]
        if moved is not None:
            moved = Moved(**{**moved, "collectives": tuple(Collectives(**one) for one in moved["collectives"])})
        return Compiled(
            **{
                **found,
                "whole": tuple(found["whole"]),
                "memory": memory and Memory(**memory),
                "moved": moved,
                "too_large": too_large and TooLarge(**too_large),
            }
        )
