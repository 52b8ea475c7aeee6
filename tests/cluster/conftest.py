"""One SLURM for all tests of this folder, and the launcher in front of it."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.quick_compile import QUICK_COMPILE

_SPEC = importlib.util.spec_from_file_location("slurm_cluster", Path(__file__).with_name("slurm_cluster.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
slurm_cluster = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(slurm_cluster)

REPOSITORY = Path(__file__).parents[2]


class Slurm:
    """A running cluster.

    Attributes:
      environment: in which SLURM's commands, and jobs, run.
      jobs: folder of scripts and outputs.
    """

    def __init__(self, environment: dict[str, str], jobs: Path):
        one_device = {"XLA_FLAGS": QUICK_COMPILE, "JAX_NUM_CPU_DEVICES": "1"}
        self.environment = {**environment, **one_device, "PYTHONUNBUFFERED": "1"}
        self.jobs = jobs

    def launch(self, *arguments: object) -> subprocess.CompletedProcess:
        """`vit_jax launch slurm`."""
        command = [sys.executable, "-m", "vit_jax", "launch", "slurm", f"--job_dir={self.jobs}", *map(str, arguments)]
        return subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=600
        )

    def submit(self, *arguments: object) -> str:
        """Submits without waiting; the number of the job."""
        done = self.launch(*arguments)
        found = re.search(r"job (\d+) submitted", done.stderr)
        assert found, done.stderr
        return found[1]

    def ask(self, *command: str) -> str:
        """What one of SLURM's commands prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def show(self, job: str) -> str:
        """Everything SLURM knows of a job."""
        return self.ask("scontrol", "--oneliner", "show", "job", job)

    def wait(self, job: str, what: Callable[[], object], seconds: float = 400) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"{self.show(job)}\n{self.output(job)}"
            time.sleep(0.2)

    def output(self, job: str, name: str = "vit_jax") -> str:
        """What the job has written."""
        path = self.jobs / f"{name}-{job}.out"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    lacking = slurm_cluster.missing()
    if lacking:
        pytest.fail(f"no SLURM here: {', '.join(lacking)}; `make cluster` installs it, as root")
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,  # short: a socket lies in it
        slurm_cluster.cluster(Path(folder)) as environment,
    ):
        yield Slurm({**os.environ, **environment}, tmp_path_factory.mktemp("jobs"))
