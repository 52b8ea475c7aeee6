"""Programs that stand in for those of a cluster, and the launcher as a process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


class Programs:
    """A folder in front of the PATH.

    Attributes:
      folder: where the programs lie.
      environment: variables in which they are found.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}

    def add(self, name: str, script: str, interpreter: str = "/bin/bash") -> Path:
        """Makes a program of a script's text."""
        path = self.folder / name
        path.write_text(f"#!{interpreter}\n{script}\n")
        path.chmod(0o755)
        return path

    def hide(self, *names: str) -> dict[str, str]:
        """An environment whose PATH has the usual commands, but not these."""
        kept = self.folder.parent / "kept"
        kept.mkdir()
        for folder in os.environ["PATH"].split(":"):
            for path in Path(folder).glob("*") if Path(folder).is_dir() else ():
                if path.name not in names and not (kept / path.name).exists():
                    (kept / path.name).symlink_to(path)
        return {**self.environment, "PATH": str(kept)}


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "programs")


@pytest.fixture
def launch(programs: Programs) -> Callable[..., subprocess.CompletedProcess]:
    """`launch("slurm", "--dry_run", "--", "train")` as a process of its own."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "vit_jax", "launch", *map(str, arguments)]
        settings = {"env": programs.environment, "capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run(command, **settings)

    return run
