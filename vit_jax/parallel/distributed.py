"""Starting, agreeing and stopping across the processes of a job."""

import atexit
import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed as jax_distributed  # the client of the service has no public name
from jax.experimental import multihost_utils

from vit_jax.errors import BadSetting, UserError
from vit_jax.parallel.barrier import SharedFate
from vit_jax.parallel.peers import join_job

# Seconds of silence after which a process counts as gone. JAX's own 100 would let a job hang for longer than a minute.
HEARTBEAT_SECONDS = 30

_barriers = itertools.count()

_LARGE = 2**28  # bytes above which a parameter is gathered in parts
_OURS = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def start(
    mode: str = "auto", environment: Mapping[str, str] = os.environ, heartbeat_seconds: int = HEARTBEAT_SECONDS
) -> bool:
    """Calls `jax.distributed.initialize` when the environment says that this is one process of several.

    Recognised: JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID (what `launch/local.py` sets), SLURM
    with more than one task, and TPU slices of more than one host. VIT_JAX_DISTRIBUTED says what `auto` means, where no
    variable shows it (what `launch/tpu.py` sets). Call it before anything touches a device. From then on an error that
    nobody catches ends all processes of the job, see `peers`.

    Args:
      mode: `auto`, `on` (initialize in any case) or `off`.
      environment: variables, for tests.
      heartbeat_seconds: silence after which JAX gives up a process and ends the others.

    Returns:
      Whether the job is distributed.

    Raises:
      UserError: the variables are incomplete or not numbers.
    """
    if heartbeat_seconds < 1:
        raise BadSetting("--heartbeat_seconds", heartbeat_seconds, "must be at least 1")
    if mode == "auto":
        mode = environment.get("VIT_JAX_DISTRIBUTED", "auto")
        if mode not in ("auto", "on", "off"):
            raise UserError(f"VIT_JAX_DISTRIBUTED = {mode!r}: must be auto, on or off")
    if mode == "off" or (mode == "auto" and not _is_distributed(environment)):
        if jax.process_count() > 1:
            raise UserError(
                f"--distributed={mode}: this is one of {jax.process_count()} processes; pass --distributed=on"
            )
        return False
    jax.distributed.initialize(**_address(environment), heartbeat_timeout_seconds=heartbeat_seconds)
    state = jax_distributed.global_state
    if state.client is not None and state.num_processes > 1:
        atexit.register(join_job(state.client, state.process_id, state.num_processes, heartbeat_seconds))
    return True


def _address(environment: Mapping[str, str]) -> dict[str, Any]:
    """What `jax.distributed.initialize` does not find out itself."""
    if all(name in environment for name in _OURS):
        return {
            "coordinator_address": environment["JAX_COORDINATOR_ADDRESS"],
            "num_processes": _number(environment, "JAX_NUM_PROCESSES"),
            "process_id": _number(environment, "JAX_PROCESS_ID"),
        }
    if _owns_a_node(environment):
        # Left alone, JAX gives each task of SLURM the one GPU with the number of the task.
        return {"local_device_ids": range(_number(environment, "SLURM_GPUS_ON_NODE"))}
    return {}


def _is_distributed(environment: Mapping[str, str]) -> bool:
    given = [name for name in _OURS if name in environment]
    if "JAX_NUM_PROCESSES" in given or "JAX_PROCESS_ID" in given:
        missing = [name for name in _OURS if name not in given]
        if missing:
            raise UserError(f"{given[-1]} is set but {', '.join(missing)} is not: set all three, or none")
        return True
    # SLURM_STEP_NODELIST is set by srun only: a plain shell inside an allocation is one process.
    if "SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        return True
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
    return "," in hosts or int(environment.get("MEGASCALE_NUM_SLICES", "1")) > 1


def _owns_a_node(environment: Mapping[str, str]) -> bool:
    """Whether this is the only SLURM task of a node with several GPUs."""
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "")  # "1" or "1(x4)"
    return tasks.partition("(")[0] == "1" and environment.get("SLURM_GPUS_ON_NODE", "1") != "1"


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise UserError(f"{name} = {environment[name]!r}: must be a whole number") from None


def is_main() -> bool:
    """Whether this process writes logs and files that exist once."""
    return jax.process_index() == 0


def process_index() -> int:
    """Number of this process, from 0."""
    return jax.process_index()


def process_count() -> int:
    """Processes of the job."""
    return jax.process_count()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Makes all processes leave the block alike: if it raised UserError on one, it raises on all.

    Also a barrier. Nothing inside may wait for another process.
    """
    error: UserError | None = None
    try:
        yield
    except UserError as found:
        error = found
    if jax.process_count() > 1:
        said = gather_text(str(error or ""))
        first = next((i for i, message in enumerate(said) if message), None)
        if error is None and first is not None:
            error = UserError(f"process {first}: {said[first]}")
    if error is not None:
        raise error


def gather_text(text: str) -> list[str]:
    """The texts of all processes, in their order, on every process."""
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(own))))
    padded = np.zeros(max(1, sizes.max()), np.uint8)
    padded[: len(own)] = own
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def from_main(value: int) -> int:
    """The main process's value, on every process."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def barrier(name: str) -> None:
    """Waits until every process of the job is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def shared_fate() -> SharedFate | None:
    """Barriers for Orbax that do not wait for a process that failed; None in a job of one process.

    All processes must call this equally often: each call gives other barriers.
    """
    client = jax_distributed.global_state.client
    if client is None or jax.process_count() == 1:
        return None
    return SharedFate(client, str(next(_barriers)), jax.process_count())


def preempted_at(step: int) -> bool:
    """Whether some process got SIGTERM and all agreed to stop at this very step (distributed jobs only)."""
    return multihost_utils.reached_preemption_sync_point(step)


def to_host(tree: Any) -> Any:
    """The whole arrays as NumPy on the main process; elsewhere, in a job of several, empty ones.

    Gathers through the devices at most one layer of a stacked parameter at a time.
    """

    def whole(leaf: jax.Array) -> np.ndarray:
        gathered = np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return gathered if is_main() else np.zeros((0, *gathered.shape), gathered.dtype)

    def gather(leaf: jax.Array) -> np.ndarray:
        if leaf.is_fully_addressable:
            return np.asarray(leaf)
        if leaf.nbytes < _LARGE:
            return whole(leaf)
        return np.stack([whole(leaf[i]) for i in range(leaf.shape[0])])

    return jax.tree.map(gather, tree)
