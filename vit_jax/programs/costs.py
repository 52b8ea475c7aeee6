"""What a compiled program moves: bytes of memory and of the networks, with the bodies of loops multiplied out.

XLA's own cost analysis sees a loop's body once, whatever its length.
"""

import dataclasses
import re

from vit_jax.programs.hlo import Array, Computation, Instruction, Module

COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")

# Nothing is moved by these; what loops and calls run is counted inside.
_FREE = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|after-all|add-dependency|opt-barrier|partition-id|replica-id"
    r"|while|call|conditional|.*-done|send|recv|domain|rng-get-and-update-state"
)
_FREE_CALLS = re.compile(r'custom_call_target="(AllocateBuffer|ConcatBitcast|AsyncCollective\w*|Sharding)"')
_VIEWS = ("bitcast", "reshape", "get-tuple-element")
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one kind of collective sends within a group of devices.

    Attributes:
      kind: one of `COLLECTIVES`.
      group: devices that take part.
      bytes: that each device sends, by a ring: (n - 1) / n of the whole array for an all-gather, reduce-scatter or
        all-to-all, twice that for an all-reduce, all of it for a permutation.
      count: how many are run.
    """

    kind: str
    group: int
    bytes: float
    count: int


@dataclasses.dataclass
class Costs:
    """Of one device, for one run of a program.

    Attributes:
      memory_bytes: read from and written to the main memory.
      traffic: {(kind of collective, devices in a group): (bytes that each device sends, how many)}.
      slice_bytes: sent to other slices, over the data centre's network.
      cycles: that the compiler expects its instructions to take, where it says so (TPUs): without collectives.
      unknown_loops: loops whose length the text does not tell; their bodies are counted once.
    """

    memory_bytes: float = 0
    traffic: dict[tuple[str, int], tuple[float, int]] = dataclasses.field(default_factory=dict)
    slice_bytes: float = 0
    cycles: float = 0
    unknown_loops: int = 0

    def add(self, other: "Costs", times: int = 1) -> None:
        """Adds what another part of the program costs, `times` over."""
        self.memory_bytes += times * other.memory_bytes
        self.slice_bytes += times * other.slice_bytes
        self.cycles += times * other.cycles
        self.unknown_loops += other.unknown_loops
        for key, (size, count) in other.traffic.items():
            before = self.traffic.get(key, (0, 0))
            self.traffic[key] = (before[0] + times * size, before[1] + times * count)

    def collectives(self) -> list[Traffic]:
        """The traffic inside slices, by kind."""
        return [Traffic(kind, group, *found) for (kind, group), found in sorted(self.traffic.items())]


def count(module: Module, devices: int) -> Costs:
    """The costs of a program that `devices` devices of one slice run together."""
    return _Counter(module, devices).computation(module.entry)


class _Counter:
    def __init__(self, module: Module, devices: int):
        self._module, self._devices = module, devices
        self._known: dict[str, Costs] = {}

    def computation(self, name: str) -> Costs:
        if name not in self._known:
            costs, seen = Costs(), set[tuple[str, str]]()
            computation = self._module.computations[name]
            for instruction in computation.values():
                self._collect(costs, instruction)
                if instruction.opcode == "fusion":
                    self._fused_collectives(costs, instruction, seen)
                costs.memory_bytes += self._memory(instruction, computation)
                costs.cycles += _cycles(instruction)
                self._inner(costs, instruction, computation)
            self._known[name] = costs
        return self._known[name]

    def _inner(self, costs: Costs, instruction: Instruction, computation: Computation) -> None:
        """What the computations cost that an instruction runs."""
        if instruction.opcode == "while":
            trips = trip_count(self._module, instruction, computation)
            costs.unknown_loops += trips is None
            for name in instruction.called():
                costs.add(self.computation(name), 1 if trips is None else trips)
        elif instruction.opcode in ("call", "async-start"):
            for name in instruction.called():
                costs.add(self.computation(name))
        elif instruction.opcode == "conditional":
            branches = [self.computation(name) for name in instruction.called()]
            costs.add(max(branches, key=lambda branch: branch.memory_bytes, default=Costs()))

    # --- networks ---

    def _fused_collectives(self, costs: Costs, fusion: Instruction, seen: set[tuple[str, str]]) -> None:
        """TPU programs run a collective in steps that are fused into the computations it overlaps with.

        They share a channel.
        """
        for instruction in self._inside(fusion).values():
            step = instruction.opcode, instruction.attribute(r"channel_id=(\d+)") or instruction.name
            if step not in seen:
                seen.add(step)
                self._collect(costs, instruction)
            if instruction.opcode == "fusion":
                self._fused_collectives(costs, instruction, seen)

    def _collect(self, costs: Costs, instruction: Instruction) -> None:
        if instruction.opcode == "send" and "megascale" in instruction.attributes:
            costs.slice_bytes += instruction.results[0].bytes
        kind = instruction.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
            return
        group = self._group(instruction)
        size = _collective_bytes(instruction, kind)
        whole = size * group if kind == "reduce-scatter" else size
        share = {"collective-permute": 1.0, "all-reduce": 2 * (group - 1) / group}.get(kind, (group - 1) / group)
        before = costs.traffic.get((kind, group), (0, 0))
        costs.traffic[kind, group] = (before[0] + share * whole, before[1] + 1)

    def _group(self, instruction: Instruction) -> int:
        """Devices that one group of a collective has."""
        if instruction.opcode.startswith("collective-permute"):
            return 2
        text = instruction.attributes
        if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
            return found[1].count(",") + 1
        if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
            return int(found[1])
        if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text):
            return _mesh_group(found[1], found[2])
        return self._devices

    # --- memory ---

    def _memory(self, instruction: Instruction, computation: Computation) -> int:
        """Bytes that an instruction reads from and writes to the main memory."""
        opcode = instruction.opcode
        if _FREE.fullmatch(opcode) or (opcode == "custom-call" and _FREE_CALLS.search(instruction.attributes)):
            return 0
        operands = [computation[name] for name in instruction.operands if name in computation]
        if opcode.endswith("-start") and opcode != "async-start":
            return _transfer(instruction, operands)
        if opcode == "async-start":
            return 0  # counted inside
        if opcode == "fusion":
            return self._fusion(instruction, operands)
        if opcode == "dynamic-update-slice":
            return 2 * _main(operands[1].results)
        read = _SLICES if opcode in _SLICES else ()
        inputs = _main(instruction.results) if read else sum(_main(operand.results) for operand in operands)
        return inputs + _main(instruction.results)

    def _fusion(self, fusion: Instruction, operands: list[Instruction]) -> int:
        read = 0
        for number, operand in enumerate(operands):
            whole = _main(operand.results)
            read += min(whole, self._read(self._inside(fusion), number)) if whole else 0
        return read + self._written(fusion)

    def _inside(self, fusion: Instruction) -> Computation:
        return self._module.computations[next(iter(fusion.called()))]

    def _read(self, inside: Computation, number: int) -> int:
        """How much of a parameter a fused computation reads: slices, where it takes only slices."""
        found = (i for i in inside.values() if i.opcode == "parameter" and int(i.inside) == number)
        parameter = next(found, None)
        return self._used(inside, parameter) if parameter else 0

    def _used(self, inside: Computation, value: Instruction) -> int:
        size = 0
        for user in inside.values():
            for place, name in enumerate(user.operands):
                if name != value.name:
                    continue
                if user.opcode in _VIEWS:
                    size += self._used(inside, user)
                elif user.opcode == "fusion":
                    size += self._read(self._inside(user), place)
                elif user.opcode in _SLICES and place == 0:
                    size += user.bytes
                elif user.opcode == "dynamic-update-slice" and place == 0:
                    continue  # changed in place
                elif user.opcode != "tuple":
                    return value.bytes
        return min(size, value.bytes)

    def _written(self, fusion: Instruction) -> int:
        """What a fusion writes: the slice, where it changes a slice of an array in place."""
        inside = self._inside(fusion)
        root = next(instruction for instruction in inside.values() if instruction.root)
        members = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root]
        if len(members) != len(fusion.results):
            return _main(fusion.results)
        sizes = (self._changed(inside, member) for member in members)
        return sum(min(s, r.bytes) for s, r in zip(sizes, fusion.results, strict=True) if r.space == 0)

    def _changed(self, inside: Computation, member: Instruction) -> int:
        while member.opcode in _VIEWS and member.operands[0] in inside:
            member = inside[member.operands[0]]
        if member.opcode == "dynamic-update-slice":
            return inside[member.operands[1]].bytes
        if member.opcode == "parameter":
            return 0  # handed on as it is
        return self._written(member) if member.opcode == "fusion" and len(member.results) == 1 else member.bytes


def _main(found: list[Array]) -> int:
    """Bytes of those arrays that lie in the main memory."""
    return sum(array.bytes for array in found if array.space == 0)


def _transfer(instruction: Instruction, operands: list[Instruction]) -> int:
    """An asynchronous copy or slice between memories, or a collective: what it reads and what it writes."""
    results = [array for array in instruction.results if array.dtype != "token"]
    if instruction.opcode == "copy-start":
        moved = results[0]
    else:  # operands, result, and then what keeps track of it
        place = min(len(operands), len(results) - 1)
        moved = results[place]
    source = operands[0].results[0].space if operands and operands[0].results else 0
    return moved.bytes * ((source == 0) + (moved.space == 0))


def _collective_bytes(instruction: Instruction, kind: str) -> int:
    """Of the result: of what is gathered, reduced or exchanged."""
    results = instruction.results
    if not instruction.opcode.endswith("-start"):
        return sum(array.bytes for array in results)
    if kind == "all-reduce":
        return sum(array.bytes for array in results)
    # (operands, results, ...): as many results as operands.
    number = len(instruction.operands)
    return sum(array.bytes for array in results[number : 2 * number])


def _mesh_group(sizes: str, axes: str) -> int:
    """Devices a group has by `'a'=4,'b'=2` and `'a','b'`; an axis may be split: `'a':(1)2` has 2."""
    known = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", sizes)}
    group = 1
    for name, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", axes):
        group *= int(part) if part else known[name]
    return group


def _cycles(instruction: Instruction) -> float:
    if instruction.opcode.endswith(("-start", "-done")):
        return 0.0
    return float(instruction.attribute(r'"estimated_cycles":"(\d+)"') or 0)


# --- loops ---


def trip_count(module: Module, loop: Instruction, computation: Computation) -> int | None:
    """How often the body of a while loop runs, or None if the text does not tell.

    XLA says it itself on CPUs and GPUs. Elsewhere the condition is read: a counter that is less than a constant.
    """
    if said := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"\}'):
        return int(said)
    condition = module.computations[loop.attribute(r"condition=%?([\w.\-]+)") or ""]
    test = next(instruction for instruction in condition.values() if instruction.root)
    if test.opcode != "compare" or "direction=LT" not in test.attributes:
        return None
    counter, limit = (condition[name] for name in test.operands)
    if counter.opcode != "get-tuple-element" or limit.opcode != "constant":
        return None
    start = _initial(computation, loop, int(counter.attribute(r"index=(\d+)") or 0))
    return None if start is None else max(0, int(limit.inside) - start)


def _initial(computation: Computation, loop: Instruction, index: int) -> int | None:
    """The constant that a member of the loop's state starts from."""
    state = computation.get(loop.operands[0])
    if state is None or state.opcode != "tuple":
        return None
    member = computation[state.operands[index]]
    while member.opcode in ("copy", "bitcast") and member.operands[0] in computation:
        member = computation[member.operands[0]]
    return int(member.inside) if member.opcode == "constant" else None
