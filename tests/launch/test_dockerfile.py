"""The image's recipe: what it copies is enough to install from, and nothing else is sent to the builder."""

import re
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "launch" / "Dockerfile"


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    parser = pytest.importorskip("dockerfile_parse")
    folder = tmp_path_factory.mktemp("dockerfile")
    parsed = parser.DockerfileParser(path=str(folder))
    parsed.content = FILE.read_text()
    return [(step["instruction"], step["value"]) for step in parsed.structure if step["instruction"] != "COMMENT"]


def values(steps, instruction):
    return [value for name, value in steps if name == instruction]


def copied(steps):
    return [source for value in values(steps, "COPY") for source in value.split()[:-1]]


def test_it_has_what_an_image_needs(steps):
    assert values(steps, "FROM") == ["python:${PYTHON}-slim"]
    assert values(steps, "ARG") == ["PYTHON=3.12", "EXTRA=tpu"]
    assert values(steps, "ENTRYPOINT") == ['["vit_jax"]']  # no shell that would keep SIGTERM for itself
    known = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"}
    assert {name for name, _ in steps} <= known


def test_the_extras_exist(steps):
    (run,) = values(steps, "RUN")
    choices = re.search(r'case "\$EXTRA" in (\S+)\) ;;', run)[1].split("|")
    setup = (REPOSITORY / "setup.py").read_text()
    assert choices == ["tpu", "gpu"]
    assert all(f'"{choice}": [' in setup for choice in choices)


def test_an_unknown_extra_stops_the_build_before_installing(steps):
    (run,) = values(steps, "RUN")
    script = run.replace("pip install", "echo installs")
    for extra, status in (("tpu", 0), ("cpu", 1)):
        done = subprocess.run(["/bin/sh", "-c", script], env={"EXTRA": extra}, capture_output=True, text=True)
        assert (done.returncode, "installs" in done.stdout) == (status, status == 0)


def test_only_what_is_copied_is_sent(steps):
    lines = FILE.with_name("Dockerfile.dockerignore").read_text().split()
    assert lines[0] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied(steps))
    assert not any(fnmatch(source, line) for source in copied(steps) for line in lines[1:])


@pytest.mark.slow
def test_what_is_copied_makes_a_wheel_with_launchers_and_configs(steps, tmp_path):
    pytest.importorskip("setuptools")
    pytest.importorskip("wheel")
    for source in copied(steps):
        assert (REPOSITORY / source).exists(), source
        if (REPOSITORY / source).is_dir():
            shutil.copytree(REPOSITORY / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / source, tmp_path)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir=out"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("launch/worker.sh", "launch/slurm.py", "configs/digits.py", "cli/launch.py"):
        assert f"vit_jax/{name}" in names
