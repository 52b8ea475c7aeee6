"""The gcloud commands of a queued resource."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vit_jax.launch import tpu_types
from vit_jax.launch.tpu_files import RUN


class Wanted(Protocol):
    """What is requested: `vit_jax.launch.tpu.Settings`."""

    name: str
    zone: str
    project: str
    num_slices: int
    runtime_version: str
    spot: bool
    reserved: bool

    @property
    def slice(self) -> tpu_types.Slice:
        """What one of the slices consists of."""


class Gcloud:
    """Commands as lists of arguments; nothing is run here."""

    def __init__(self, wanted: Wanted):
        self._wanted = wanted

    def _command(self, verb: str, *arguments: str) -> list[str]:
        where = [f"--zone={self._wanted.zone}"]
        if self._wanted.project:
            where.append(f"--project={self._wanted.project}")
        return ["gcloud", "compute", "tpus", "queued-resources", verb, *arguments, *where, "--quiet"]

    def create(self) -> list[str]:
        """Requests the slices."""
        wanted, name = self._wanted, self._wanted.name
        nodes = [f"--node-id={name}"]
        if wanted.num_slices > 1:
            nodes = [f"--node-count={wanted.num_slices}", f"--node-prefix={name}"]
        slice_ = wanted.slice
        what = [f"--accelerator-type={slice_.accelerator_type}"]
        what.append(f"--runtime-version={wanted.runtime_version or slice_.kind.runtime}")
        how = [f"--{option}" for option in ("spot", "reserved") if getattr(wanted, option)]
        return self._command("create", name, *nodes, *what, *how)

    def describe(self, form: str = "value(state.state)") -> list[str]:
        """Prints the state in one word, or in another of gcloud's formats."""
        return self._command("describe", self._wanted.name, f"--format={form}")

    def delete(self) -> list[str]:
        """Deletes the queued resource with its nodes, and waits for it."""
        return self._command("delete", self._wanted.name, "--force")

    def scp(self, paths: Sequence[Path]) -> list[str]:
        """Copies files into the folder of the run on all workers of all slices."""
        everywhere = ["--node=all", "--worker=all"]
        return self._command("scp", *map(str, paths), f"{self._wanted.name}:{RUN}/", *everywhere)

    def ssh(self, command: str) -> list[str]:
        """Runs a shell command on all workers of all slices."""
        return self._command("ssh", self._wanted.name, "--node=all", "--worker=all", f"--command={command}")

    def worker(self, step: str) -> list[str]:
        """Runs a step of worker.sh."""
        return self.ssh(f"bash {RUN}/worker.sh {step}")
