"""A run that is stopped or killed and started again by the same command is the run that was never stopped."""

import pytest

from vit_jax.errors import EXIT_RESUMABLE
from vit_jax.train import METRICS_FILE, read_metrics

from . import runs

pytestmark = pytest.mark.slow

# On real images with augmentation, dropout, accumulation, averaging and clipping.
EVERYTHING = [
    "--config.data.name=digits",
    "--config.model.dropout=0.1",
    "--config.train.micro_batches=2",
    "--config.train.ema_decay=0.9",
]


def _arguments(kind, workdir, digits_dir):
    added = [*EVERYTHING, f"--config.data.data_dir={digits_dir}"] if kind == "everything on" else []
    return ["train", f"--workdir={workdir}", *runs.SYNTHETIC, *added]


@pytest.fixture(scope="module", params=["plain", pytest.param("everything on", marks=pytest.mark.long)])
def uninterrupted(request, tmp_path_factory, digits_dir):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "w"
    runs.run(_arguments(request.param, workdir, digits_dir))
    return request.param, workdir


@pytest.mark.parametrize("number", [runs.TERM, runs.KILL], ids=["SIGTERM", "kill -9"])
def test_losses_are_bit_identical_after(number, uninterrupted, tmp_path, digits_dir):
    kind, whole = uninterrupted
    arguments = _arguments(kind, tmp_path / "w", digits_dir)
    status = runs.interrupt(arguments, number, step=24)
    assert status == (EXIT_RESUMABLE if number == runs.TERM else -runs.KILL)
    before = set(runs.losses(tmp_path / "w"))
    assert 0 < len(before) < 60
    output = runs.run(arguments)
    assert "resuming from step" in output
    assert runs.losses(tmp_path / "w") == runs.losses(whole)
    assert sorted(runs.losses(whole)) == list(range(1, 61))
    assert _final_evaluation(tmp_path / "w") == _final_evaluation(whole)


def _final_evaluation(workdir):
    return next(r for r in reversed(read_metrics(workdir / METRICS_FILE)) if "eval/loss" in r)
