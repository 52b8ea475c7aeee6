"""Two real processes joined by jax.distributed train like one."""

import json

import numpy as np
import pytest

from vit_jax.errors import EXIT_RESUMABLE
from vit_jax.train import METRICS_FILE, read_metrics

from . import runs

pytestmark = pytest.mark.slow


def _arguments(workdir, digits_dir, *more):
    data = ["--config.data.name=digits", f"--config.data.data_dir={digits_dir}"]
    return ["train", f"--workdir={workdir}", *runs.SYNTHETIC, *data, "--config.train.duration=30 steps", *more]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, digits_dir):
    workdir = tmp_path_factory.mktemp("alone") / "w"
    runs.run(_arguments(workdir, digits_dir))
    return workdir


def _evaluations(workdir):
    return {r["step"]: r["eval/accuracy"] for r in read_metrics(workdir / METRICS_FILE) if "eval/accuracy" in r}


@pytest.mark.long
def test_two_processes_stopped_by_sigterm_and_resumed_equal_one(alone, tmp_path, digits_dir):
    arguments = _arguments(tmp_path / "w", digits_dir, "--config.mesh.fsdp=2")
    status = runs.interrupt(arguments, runs.TERM, step=9, processes=2, devices=2)
    assert status == EXIT_RESUMABLE
    assert max(runs.losses(tmp_path / "w")) < 30
    output = runs.run(arguments, processes=2, devices=2)
    assert "4 cpu devices as data 2 x fsdp 2, 2 processes" in output
    together, single = runs.losses(tmp_path / "w"), runs.losses(alone)
    assert together.keys() == single.keys()
    np.testing.assert_allclose([together[s] for s in single], list(single.values()), rtol=2e-5)
    assert _evaluations(tmp_path / "w") == _evaluations(alone)


@pytest.mark.long
def test_a_run_of_two_processes_goes_on_as_one(alone, tmp_path, digits_dir):
    tensor = _arguments(tmp_path / "w", digits_dir, "--config.mesh.tensor=2")
    assert runs.interrupt(tensor, runs.TERM, step=9, processes=2, devices=1) == EXIT_RESUMABLE
    runs.run(_arguments(tmp_path / "w", digits_dir))
    mixed, single = runs.losses(tmp_path / "w"), runs.losses(alone)
    np.testing.assert_allclose([mixed[s] for s in single], list(single.values()), rtol=2e-5)


def test_two_processes_see_exactly_the_global_batches_of_one(tmp_path, digits_dir):
    """Batches 20 to 24 straddle the first epoch's end (1,437 images, 64 a batch)."""
    found = {}
    for processes in (1, 2):
        output = tmp_path / f"{processes}.npz"
        runs.run_script(
            "gather_batches.py", [str(digits_dir), str(output)], processes=processes, devices=4 // processes
        )
        found[processes] = np.load(output)
    assert len(found[1]["rows"]) == 64
    assert len(found[2]["rows"]) == 32
    assert found[1]["image"].shape == (5, 64, 8, 8, 3)
    for name in ("image", "label"):
        np.testing.assert_array_equal(found[1][name], found[2][name])


@pytest.mark.long
def test_two_processes_draw_the_pictures_of_one(tmp_path):
    """Split in two along the embedding, so that no process has all of a filter or of a position embedding."""
    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        runs.run_script("draw_pictures.py", [str(folder)], processes=processes, devices=4 // processes)
        found[processes] = json.loads((folder / "numbers.json").read_text())
    assert found[2]["pictures"] == found[1]["pictures"]
    assert len(found[1]["pictures"]) == 7
    for kind, name in (("distance", "pixels"), ("rollout", "weights"), ("filters", "explained_variance")):
        np.testing.assert_allclose(found[2][kind][name], found[1][kind][name], rtol=1e-4)
    tiles = [found[processes]["positions"]["similarity"]["stem"]["tiles"] for processes in (1, 2)]
    np.testing.assert_allclose(*tiles, atol=1e-3)


def test_an_error_of_one_process_ends_all_with_its_message(tmp_path, digits_dir):
    """Only the main process writes the workdir; the other must not wait for it."""
    (tmp_path / "w").write_text("a file, not a folder")
    status, output = runs.finish(runs.start(_arguments(tmp_path / "w" / "x", digits_dir), processes=2, devices=1))
    assert status == 2, output
    said = [line[:3] for line in output.splitlines() if "cannot be written" in line]
    assert sorted(said) == ["  v", "[0]", "[1]"]  # the launcher repeats the first
    assert "[1] vit_jax train: process 0: workdir" in output
    assert "Traceback" not in output
