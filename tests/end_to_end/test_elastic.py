"""A run goes on with other processes and on another mesh: the same data, the same losses but for rounding."""

import numpy as np
import pytest

from vit_jax.errors import EXIT_RESUMABLE
from vit_jax.train import METRICS_FILE, read_metrics

from . import runs

pytestmark = pytest.mark.long

TOTAL = 60


def _arguments(workdir, digits_dir, mesh):
    data = ["--config.data.name=digits", f"--config.data.data_dir={digits_dir}", "--config.train.ema_decay=0.9"]
    axes = [f"--config.mesh.{axis}={size}" for axis, size in mesh.items()]
    return ["train", f"--workdir={workdir}", *runs.SYNTHETIC, *data, f"--config.train.duration={TOTAL} steps", *axes]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, digits_dir):
    """Never stopped, one process with one device."""
    workdir = tmp_path_factory.mktemp("whole") / "w"
    runs.run(_arguments(workdir, digits_dir, {}))
    return workdir


def _evaluations(workdir):
    return {r["step"]: r["eval/loss"] for r in read_metrics(workdir / METRICS_FILE) if "eval/loss" in r}


def _follow(legs, workdir, digits_dir, whole):
    """Trains with one number of processes and mesh after the other, stopped by SIGTERM to the last process alone."""
    for number, (processes, devices, mesh) in enumerate(legs, 1):
        arguments = _arguments(workdir, digits_dir, mesh)
        if number == len(legs):
            runs.run(arguments, processes=processes, devices=devices)
            break
        job = runs.start(arguments, processes=processes, devices=devices)
        runs.wait_for_step(job, TOTAL * number // (len(legs) + 1))
        if processes == 1:
            job.send_signal(runs.TERM)
        else:
            runs.signal_worker(job, processes - 1, runs.TERM)
        status, output = runs.finish(job)
        assert status == EXIT_RESUMABLE, output
        stopped = max(runs.losses(workdir))
        assert stopped < TOTAL
        assert f"stopped after step {stopped} of {TOTAL}, saved" in output
    for found, wanted in ((runs.losses(workdir), runs.losses(whole)), (_evaluations(workdir), _evaluations(whole))):
        assert list(found) == list(wanted)
        np.testing.assert_allclose(list(found.values()), list(wanted.values()), rtol=1e-4)


# Each of 1, 2 and 4 goes on as each other, and one as one. One process reads what four wrote, each its part, and so on.
LEGS = {
    "1-1-2-4": [
        (1, 2, {"fsdp": 2}),
        (1, 4, {"tensor": 2, "fsdp": 2, "data": 1}),
        (2, 2, {"fsdp": 2, "tensor": 2, "data": 1}),
        (4, 2, {"replica": 2, "fsdp": 2, "tensor": 2, "data": 1}),
    ],
    "2-1-4-2": [(2, 1, {"tensor": 2}), (1, 1, {}), (4, 2, {"fsdp": 4}), (2, 2, {"replica": 2, "fsdp": 2})],
    "4-1": [(4, 1, {"tensor": 2}), (1, 4, {"tensor": 4})],
}


@pytest.mark.parametrize("legs", LEGS.values(), ids=LEGS)
def test_any_number_goes_on_as_any_other(legs, whole, tmp_path, digits_dir):
    _follow(legs, tmp_path / "w", digits_dir, whole)


def test_four_processes_see_exactly_the_global_batches_of_one(tmp_path, digits_dir):
    found = {}
    for processes in (1, 4):
        output = tmp_path / f"{processes}.npz"
        runs.run_script(
            "gather_batches.py", [str(digits_dir), str(output)], processes=processes, devices=4 // processes
        )
        found[processes] = np.load(output)
    assert len(found[4]["rows"]) == 16
    for name in ("image", "label"):
        np.testing.assert_array_equal(found[1][name], found[4][name])
