"""The command line in this process, and one tiny trained run for all its tests."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from vit_jax.__main__ import main


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`call("train", "--config=...")`: exit status and what was printed."""

    def run(*argv: object) -> Outcome:
        capsys.readouterr()
        return Outcome(main([str(arg) for arg in argv]), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny(digits_dir: Path) -> list[str]:
    """Flags that make configs/digits.py a run of seconds: 4 steps of `mu/2`."""
    return [
        "--config=configs/digits.py",
        f"--config.data.data_dir={digits_dir}",
        "--config.model.variant=mu/2",
        "--config.train.batch_size=16",
        "--config.train.duration=4 steps",
        "--config.checkpoint.every=2 steps",
        "--config.evaluate.every=4 steps",
        "--config.log.tensorboard=False",
    ]


@pytest.fixture(scope="session")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of that run, finished. Copy it before changing anything in it."""
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    assert main(["train", *tiny, f"--workdir={workdir}"]) == 0
    return workdir
