"""Which layout of a run fits a topology and takes least time: meshes x what is recomputed x micro-batches."""

import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Callable, Iterator

from vit_jax.errors import UserError
from vit_jax.parallel import CHIPS, LARGEST_FSDP, MeshSettings, Topology, abstract_mesh, automatic_fsdp
from vit_jax.scaling.planning.advice import smallest_micro_batches
from vit_jax.scaling.planning.children import OutOfTime, compile_apart
from vit_jax.scaling.planning.estimate import Estimate, estimate
from vit_jax.scaling.planning.record import Request
from vit_jax.train import RunSettings, bytes_by_mesh, make_model, make_optimizer, state_shapes

# A mesh whose state alone takes more of a device's memory is not compiled.
_STATE_ROOM = 0.6
_LARGEST_TENSOR = 8


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One layout.

    Attributes:
      settings: of the run with it.
      estimate: what the compiler said; None where it was not asked or gave no answer.
      note: why there is no estimate.
    """

    settings: RunSettings
    estimate: Estimate | None
    note: str = ""

    @property
    def flags(self) -> dict[str, object]:
        """The settings that make it, by name."""
        mesh, train = self.settings.mesh, self.settings.train
        return {
            "config.mesh.fsdp": mesh.fsdp,
            "config.mesh.tensor": mesh.tensor,
            "config.model.remat": self.settings.model.remat,
            "config.train.micro_batches": train.micro_batches,
        }

    @property
    def seconds(self) -> float:
        """Of a step; infinite where it does not fit or was not compiled."""
        return self.estimate.step.estimate if self.estimate and self.estimate.step else math.inf


Compile = Callable[[Request, float], Estimate]


def compile_within(request: Request, timeout: float) -> Estimate:
    """The estimate of a request, by a compiler in a process of its own that has so many seconds."""
    return estimate(request, compile_apart(request, timeout=timeout))


def search(
    request: Request,
    *,
    budget: float,
    workers: int = 2,
    compile_one: Compile = compile_within,
    told: Callable[[Candidate], None] = lambda candidate: None,
) -> list[Candidate]:
    """Compiles layouts and ranks them by the time of a step; those that do not fit come last.

    For each mesh and each way to recompute, the number of micro-batches grows until the program fits, by the memory
    that the compiler says is missing. Recomputing everything is tried where recomputing less needs micro-batches.

    Args:
      request: the run, for TPUs; its mesh, remat and micro-batches are replaced.
      budget: seconds; what has not been compiled by then is not.
      workers: compilers at a time.
      compile_one: gives an estimate within some seconds.
      told: is told of each candidate as it is known.

    Raises:
      UserError: no mesh has room for the state.
    """
    topology = Topology(**request.topology)
    meshes = _meshes(request, topology)
    if not meshes:
        fix = "no mesh has room for more than parameters and optimizer: take more chips"
        raise UserError(f"--topology={topology}: {fix}")
    end = time.monotonic() + budget

    def try_all(mesh: MeshSettings) -> list[Candidate]:
        found: list[Candidate] = []
        for candidate in _candidates(request, mesh, end, compile_one):
            told(candidate)
            found.append(candidate)
        return found

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        found = [candidate for part in pool.map(try_all, meshes) for candidate in part]
    return sorted(found, key=lambda candidate: candidate.seconds)


def _meshes(request: Request, topology: Topology) -> list[MeshSettings]:
    """Meshes with room for activations, in the order they are tried: the automatic one, more fsdp, less, tensor."""
    settings, chip = request.settings, CHIPS[topology.chip]
    model = make_model(settings, request.facts.classes)
    optimizer = make_optimizer(settings.optimizer, list(model.shapes))
    state_bytes = bytes_by_mesh(state_shapes(model, optimizer, settings.train.ema_decay > 0), model)
    found = []
    for tensor in _tensors(settings):
        free = MeshSettings(replica=topology.slices, tensor=tensor)
        if topology.devices % (topology.slices * tensor):
            continue
        fsdp = automatic_fsdp(free, topology.devices, topology.slices, chip.device_memory, state_bytes)
        for size in _around(fsdp) if tensor == 1 else (fsdp,):
            data, rest = divmod(topology.devices, topology.slices * tensor * size)
            if rest or not data:
                continue
            state = state_bytes(abstract_mesh((topology.slices, data, size, tensor)))
            if state <= _STATE_ROOM * chip.device_memory:
                found.append(dataclasses.replace(free, fsdp=size))
    return found


def _tensors(settings: RunSettings) -> Iterator[int]:
    """Degrees that split heads and MLP evenly; 1 for what has none."""
    encoder = settings.model.resolved.encoder
    for tensor in (1, 2, 4, _LARGEST_TENSOR):
        if tensor == 1 or (encoder and encoder.heads % tensor == 0 and encoder.mlp_dim % tensor == 0):
            yield tensor


def _around(fsdp: int) -> tuple[int, ...]:
    near = (fsdp, 4 * fsdp, 16 * fsdp, fsdp // 2)
    return tuple(size for size in near if 1 <= size <= LARGEST_FSDP)


def _candidates(request: Request, mesh: MeshSettings, end: float, compile_one: Compile) -> Iterator[Candidate]:
    """What is found out about one mesh."""
    for remat in ("dots", "none", "full"):
        parts: int | None = 1
        while parts is not None:
            candidate = _try(_changed(request, mesh, remat, parts), end, compile_one)
            yield candidate
            if candidate.estimate is None:
                return
            compiled = candidate.estimate.compiled
            if compiled.too_large is None and (remat, parts) == ("none", 1):
                return  # nothing to gain by recomputing everything
            tried = _changed(request, mesh, remat, parts)
            parts = smallest_micro_batches(tried, compiled) if compiled.too_large else None


def _changed(request: Request, mesh: MeshSettings, remat: str, micro_batches: int) -> Request:
    settings = request.settings
    settings = dataclasses.replace(
        settings,
        mesh=mesh,
        model=dataclasses.replace(settings.model, remat=remat),
        train=dataclasses.replace(settings.train, micro_batches=micro_batches),
    )
    return dataclasses.replace(request, settings=settings)


def _try(request: Request, end: float, compile_one: Compile) -> Candidate:
    left = end - time.monotonic()
    if left <= 0:
        return Candidate(request.settings, None, "not compiled: the time was up")
    try:
        return Candidate(request.settings, compile_one(request, left))
    except OutOfTime:
        return Candidate(request.settings, None, "not compiled to the end: the time was up")
    except UserError as error:
        return Candidate(request.settings, None, str(error))
