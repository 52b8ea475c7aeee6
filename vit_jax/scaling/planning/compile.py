"""Compiles a run's program. Run as a process of its own by `children`, because a compiler's environment and its end
belong to its process:

    python -m vit_jax.scaling.planning.compile REQUEST.json ANSWER.json
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import jax

from vit_jax import parallel
from vit_jax.errors import UserError
from vit_jax.models import count_flops, training_flops
from vit_jax.programs import costs, hlo
from vit_jax.scaling.planning.record import Collectives, Compiled, Memory, Moved, Request, TooLarge
from vit_jax.settings import build
from vit_jax.train import DataFacts, Program, RunSettings, make_program

VERSION = 3  # of what is kept; another one is not read
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TOO_LARGE = (
    re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"),
    re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
)


def compile_program(request: Request, cache: Path | None = None, text_file: Path | None = None) -> Compiled:
    """Compiles the train step of a run for a topology, or finds what was kept of that.

    Args:
      request: what to compile.
      cache: folder of earlier answers, by a hash of the lowered program, compiler and its options.
      text_file: where to write the compiled program's text; it is then always compiled.

    Raises:
      BadSetting, UserError: the run does not fit the topology, or the topology cannot be compiled for.
    """
    topology = parallel.Topology(**request.topology)
    program = make_program(request.settings, request.facts, parallel.topology_devices(topology))
    platforms = ("tpu",) if topology.platform == "tpu" else None
    traced = program.train_step().trace(program.state, program.batch())
    lowered = traced.lower(lowering_platforms=platforms)
    key = _key(lowered.as_text(), topology.platform, request)
    if text_file is None and (kept := _kept(cache, key)):
        return kept
    start, memory, moved, too_large = time.process_time(), None, None, None
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        too_large = _too_large(str(error))
    else:
        text = compiled.as_text()
        if text_file is not None:
            text_file.write_text(text, encoding="utf-8")
        memory, moved = _memory(program, compiled.memory_analysis()), _moved(text, program)
        chip = parallel.chip_of(program.mesh.devices.flat[0].device_kind)
        if chip and memory.total > chip.device_memory:  # compilers for GPUs do not mind
            too_large = TooLarge(memory.total, chip.device_memory)
    answer = Compiled(
        **_facts(program),
        memory=None if too_large else memory,
        moved=None if too_large else moved,
        too_large=too_large,
        seconds=time.process_time() - start,
        compiler_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        key=key,
    )
    _keep(cache, answer)
    return answer


def _facts(program: Program) -> dict[str, Any]:
    """What is known without compiling."""
    devices = program.mesh.devices.flat
    parameters = parallel.bytes_per_device(program.state["params"])[0]
    return {
        "kind": devices[0].device_kind,
        "mesh": dict(program.mesh.shape),
        "hosts": len({device.process_index for device in devices}),
        "whole": tuple(program.whole()),
        "state": parallel.bytes_per_device(program.state)[0] + parameters,
        "parameters_local": parameters // 4,
        "saved": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.state)),
        "parameters": program.model.parameter_count,
        "tokens": program.model.tokens,
        "flops": _flops(program),
        "model_flops": training_flops(program.model, program.settings.train.batch_size),
        "steps": program.steps.total,
    }


def _flops(program: Program) -> int:
    """Of one step on all devices. Kernels that hide their products count as plain attention."""
    try:
        return count_flops(program.train_step(), program.state, program.batch())
    except UserError:
        settings = program.settings
        model = dataclasses.replace(settings.model, attention="plain")
        plain = dataclasses.replace(settings, model=model)
        again = make_program(plain, program.facts, list(program.mesh.devices.flat))
        return count_flops(again.train_step(), again.state, again.batch())


def _memory(program: Program, found: Any) -> Memory:
    def local(tree: Any) -> int:
        return parallel.bytes_per_device(tree)[0]

    state = program.state
    parts = {
        "parameters": local(state["params"]),
        "optimizer": local(state["opt"]),
        "average": local(state.get("ema", {})),
        "batch": local(program.batch()),
    }
    arguments, code = found.argument_size_in_bytes, found.generated_code_size_in_bytes
    temporaries = found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(
        **parts,
        padding=arguments - sum(parts.values()),
        temporaries=temporaries,
        code=code,
        total=arguments + temporaries + code,
    )


def _moved(text: str, program: Program) -> Moved:
    found = costs.count(hlo.parse(text), program.mesh.size)
    kinds = tuple(Collectives(t.kind, t.group, t.bytes, t.count) for t in found.collectives())
    return Moved(found.memory_bytes, kinds, found.slice_bytes, found.cycles, found.unknown_loops)


def _too_large(message: str) -> TooLarge:
    """What a compiler says of a program that does not fit.

    Raises:
      UserError: it says something else.
    """
    for pattern in _TOO_LARGE:
        if found := pattern.search(message):
            needed, unit, available, other = found.groups()
            return TooLarge(float(needed) * _UNITS[unit], float(available) * _UNITS[other])
    raise UserError(f"the compiler refuses the program: {message.partition(chr(10))[0][:300]}")


# --- what is kept ---


def _key(text: str, platform: str, request: Request) -> str:
    names = ["jax", "jaxlib", *(["libtpu"] if platform == "tpu" else [])]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    about = json.dumps([VERSION, versions, sorted(request.settings.compiler.resolved().items()), text])
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _kept(cache: Path | None, key: str) -> Compiled | None:
    try:
        return Compiled.from_dict(json.loads((cache / f"{key}.json").read_text())) if cache else None
    except (OSError, ValueError, TypeError, KeyError):
        return None  # nothing, or half of something


def _keep(cache: Path | None, answer: Compiled) -> None:
    if cache is None:
        return
    path = cache / f"{answer.key}.json"
    half = path.with_suffix(f".{id(answer):x}.half")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(dataclasses.asdict(answer)))
        half.rename(path)
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror}); set VIT_JAX_CACHE", file=sys.stderr)


def main(request_file: str, answer_file: str) -> None:
    """Reads a request, writes the answer: a `Compiled`, or {"error": one line}."""
    asked = json.loads(Path(request_file).read_text())
    topology = {**asked["topology"], "shape": tuple(asked["topology"]["shape"])}
    request = Request(build(RunSettings, asked["settings"]), DataFacts(**asked["facts"]), topology)
    cache, text_file = (Path(asked[name]) if asked[name] else None for name in ("cache", "text_file"))
    try:
        answer: dict[str, Any] = dataclasses.asdict(compile_program(request, cache, text_file))
    except UserError as error:
        answer = {"error": str(error)}
    Path(answer_file).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
