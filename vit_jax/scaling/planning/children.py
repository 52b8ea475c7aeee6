"""Compilers in processes of their own: how they are started, what they may not see, and what their end means."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vit_jax.data import cache_dir
from vit_jax.errors import UserError
from vit_jax.parallel import Topology
from vit_jax.scaling.planning.record import Compiled, Request
from vit_jax.settings import to_dict

_DEVICE_COUNT = re.compile(r"--xla_force_host_platform_device_count=\d+")


class OutOfTime(UserError):
    """The compiler was stopped because it took too long."""


def environment(topology: Topology, outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a compiler's process sees in place of `outside`."""
    # Programs for described devices are written to JAX's cache but cannot be read from it.
    added = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    if topology.platform == "tpu":
        added |= {
            "JAX_PLATFORMS": "cpu",
            "TPU_SKIP_MDS_QUERY": "1",  # do not ask the cloud which machine this is
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nor claim a TPU: several compilers may run
            "TPU_ACCELERATOR_TYPE": "v5litepod-16",  # of no consequence, but missed
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_MIN_LOG_LEVEL": "3",
            "TPU_STDERR_LOG_LEVEL": "3",
        }
    elif topology.platform == "gpu":
        added |= {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    else:
        flags = _DEVICE_COUNT.sub("", outside.get("XLA_FLAGS", ""))
        added |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(topology.devices), "XLA_FLAGS": flags}
    return {**outside, **added}


def compile_apart(
    request: Request, *, cached: bool = True, text_file: Path | None = None, timeout: float | None = None
) -> Compiled:
    """`compile_program` in a process of its own.

    Args:
      request: what to compile.
      cached: whether earlier answers count, and this one is kept.
      text_file: where to write the compiled program's text.
      timeout: seconds.

    Raises:
      OutOfTime: they have passed.
      UserError: the run does not fit the topology, or the compiler's process died.
    """
    topology = Topology(**request.topology)
    with tempfile.TemporaryDirectory(prefix="vit_jax_plan_") as folder:
        asked, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(
            json.dumps(
                {
                    "settings": to_dict(request.settings),
                    "facts": dataclasses.asdict(request.facts),
                    "topology": dict(request.topology),
                    "cache": str(cache_dir() / "plans") if cached else None,
                    "text_file": str(text_file.absolute()) if text_file else None,
                }
            )
        )
        command = [sys.executable, "-m", "vit_jax.scaling.planning.compile", str(asked), str(answer)]
        try:
            done = subprocess.run(
                command, env=environment(topology), capture_output=True, text=True, errors="replace", timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise OutOfTime(f"the compiler did not end within {timeout:.0f} s") from None
        if not answer.exists():
            raise UserError(f"--topology={topology}: the compiler's process {_end(done)}")
        found = json.loads(answer.read_text())
    if "error" in found:
        raise UserError(found["error"])
    return Compiled.from_dict(found)


def _end(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process ended without an answer."""
    if done.returncode == -9:
        return "was killed: this machine may be short of memory; close other programs or plan elsewhere"
    said = [line for line in done.stderr.splitlines() if line.strip()]
    last = said[-1][:300] if said else "it said nothing"
    return f"ended with signal {-done.returncode}: {last}" if done.returncode < 0 else f"failed: {last}"
