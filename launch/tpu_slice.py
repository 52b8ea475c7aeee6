"""The gcloud commands of a queued resource."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vit_jax.launch.tpu_files import RUN
from vit_jax.launch.tpu_types import Slice


@dataclasses.dataclass(frozen=True)
class Gcloud:
    """Commands as lists of arguments; nothing is run here.

    Attributes:
      name: of the queued resource and of its nodes.
      zone: Google Cloud zone.
      project: Google Cloud project; empty for gcloud's own.
      slice: what is requested.
      num_slices: how many of them.
      runtime_version: software of the TPU VMs.
      options: `spot`, `reserved`, or none.
    """

    name: str
    zone: str
    project: str
    slice: Slice
    num_slices: int
    runtime_version: str
    options: tuple[str, ...]

    def _command(self, verb: str, *arguments: str) -> list[str]:
        where = [f"--zone={self.zone}", *([f"--project={self.project}"] if self.project else [])]
        return ["gcloud", "compute", "tpus", "queued-resources", verb, *arguments, *where, "--quiet"]

    def create(self) -> list[str]:
        """Requests the slices."""
        nodes = [f"--node-id={self.name}"]
        if self.num_slices > 1:
            nodes = [f"--node-count={self.num_slices}", f"--node-prefix={self.name}"]
        kind = [f"--accelerator-type={self.slice.accelerator_type}", f"--runtime-version={self.runtime_version}"]
        return self._command("create", self.name, *nodes, *kind, *(f"--{option}" for option in self.options))

    def describe(self, form: str = "value(state.state)") -> list[str]:
        """Prints the state in one word, or in another of gcloud's formats."""
        return self._command("describe", self.name, f"--format={form}")

    def delete(self) -> list[str]:
        """Deletes the queued resource with its nodes, and waits for it."""
        return self._command("delete", self.name, "--force")

    def scp(self, paths: Sequence[Path]) -> list[str]:
        """Copies files into the folder of the run on all workers of all slices."""
        return self._command("scp", *map(str, paths), f"{self.name}:{RUN}/", "--node=all", "--worker=all")

    def ssh(self, command: str) -> list[str]:
        """Runs a shell command on all workers of all slices."""
        return self._command("ssh", self.name, "--node=all", "--worker=all", f"--command={command}")

    def worker(self, step: str) -> list[str]:
        """Runs a step of worker.sh."""
        return self.ssh(f"bash {RUN}/worker.sh {step}")
