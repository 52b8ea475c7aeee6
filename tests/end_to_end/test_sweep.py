"""Sweeps in processes of their own: killed anywhere and started again, two at once, brought down by a run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit_jax.errors import EXIT_RESUMABLE
from vit_jax.scaling import read_study

from . import runs

pytestmark = pytest.mark.long

SWEEP = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({
        "model": {"variant": "mu/4"}, "data": {"name": "synthetic", "image_size": (8, 8)},
        "train": {"batch_size": 16, "duration": "20 steps"}, "schedule": {"warmup": "2 steps"},
        "checkpoint": {"every": "4 steps"}, "evaluate": {"every": "10 steps", "batch_size": 256},
        "log": {"every": "1 step", "tensorboard": False},
    })

def get_hyper(hyper):
    return hyper.then(hyper.sweep("seed", [0, 1]), hyper.fixed("schedule.learning_rate", 1e-2))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "s.py"
    path.write_text(SWEEP)
    return path


def arguments(config, workdir, *more):
    return ["sweep", f"--config={config}", f"--workdir={workdir}", *more]


def table(workdir):
    """What a sweep found: status, steps and numbers of every run, in full precision."""
    return {
        run.cost.name: (run.status, run.step, dict(run.scores), [r["loss"] for r in run.records if "loss" in r])
        for run in read_study(workdir).runs
    }


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A sweep that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "w"
    runs.run(arguments(config, workdir))
    found = table(workdir)
    assert [status for status, *_ in found.values()] == ["done"] * 4
    return found


def descendants(pid):
    """A process and its children's children, who lead sessions of their own."""
    found = [pid]
    for line in subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True).stdout.splitlines()[1:]:
        child, parent = map(int, line.split())
        if parent in found and child not in found:
            found.append(child)
    return found


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_and_restarted_it_ends_with_the_same_table(seed, config, whole, tmp_path):
    """First everything is killed at once, as when a machine dies; then only the process that was started."""
    draw = random.Random(seed)
    for only_the_first in (False, True):
        process = runs.start(arguments(config, tmp_path / "w"))
        steps = draw.randint(1, 60)
        for line in process.stdout:
            steps -= line.startswith("step")
            if steps <= 0:
                break
        for pid in [process.pid] if only_the_first else descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    # What is left of the second one notices that it is alone, saves and goes; we wait for its runs.
    runs.run(arguments(config, tmp_path / "w"))
    assert table(tmp_path / "w") == whole


def test_two_sweeps_at_once_share_the_runs(config, whole, tmp_path):
    processes = [runs.start(arguments(config, tmp_path / "w")) for _ in range(2)]
    outputs = [runs.finish(process) for process in processes]
    assert [status for status, _ in outputs] == [0, 0], outputs
    assert table(tmp_path / "w") == whole
    started = [name for _, output in outputs for name in whole for line in output.splitlines() if f"== {name}" in line]
    assert sorted(started) == sorted(whole)  # none twice


def test_a_stopped_sweep_says_so_and_goes_on(config, whole, tmp_path):
    assert runs.interrupt(arguments(config, tmp_path / "w"), runs.TERM, step=5) == EXIT_RESUMABLE
    statuses = {run.status for run in read_study(tmp_path / "w").runs}
    assert statuses & {"unfinished", "waiting"}
    runs.run(arguments(config, tmp_path / "w"))
    assert table(tmp_path / "w") == whole


def test_a_run_that_brings_its_process_down_is_an_error_of_that_run(config, whole, tmp_path):
    """Its process is killed, as by a system that is out of memory; the others go on in another."""
    process = runs.start(arguments(config, tmp_path / "w"))
    for line in process.stdout:
        if line.startswith("step"):
            break
    os.kill(descendants(process.pid)[1], signal.SIGKILL)
    status, output = runs.finish(process)
    found = read_study(tmp_path / "w").runs
    assert [run.status for run in found] == ["failed", "waiting", "done", "done"], output
    assert found[0].error == "its process was ended by SIGKILL: was there memory enough?"
    assert status == 128 + signal.SIGKILL
    runs.run(arguments(config, tmp_path / "w"))
    assert table(tmp_path / "w") == whole


def test_an_edited_sweep_says_what_differs(config, tmp_path):
    edited = tmp_path / "s.py"
    edited.write_text(SWEEP.replace("20 steps", "4 steps").replace("[0, 1]", "[0]"))
    runs.run(arguments(edited, tmp_path / "w", "--only=" + _names(edited)[0]))
    before = {path: path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file()}
    edited.write_text(edited.read_text().replace("1e-2", "2e-2"))
    status, output = runs.finish(runs.start(arguments(edited, tmp_path / "w")))
    assert status == 2
    assert "was started with another sweep: run " in output
    assert "is gone, and" in output
    edited.write_text(edited.read_text().replace("2e-2", "1e-2").replace("4 steps", "6 steps"))
    status, output = runs.finish(runs.start(arguments(edited, tmp_path / "w")))
    assert status == 2
    assert "had config.train.duration = '4 steps' and has '6 steps' now" in output
    after = {path: path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file()}
    assert after == before


def _names(config: Path) -> list[str]:
    command = [sys.executable, "-m", "vit_jax", "sweep", f"--config={config}", "--dry_run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=runs.TIMEOUT)
    rows = json.loads(done.stdout)
    return [run["name"] for row in rows for run in (row, *row["transfers"])]


def test_the_status_can_be_asked_for_at_any_time(tmp_path):
    endless = tmp_path / "s.py"
    endless.write_text(SWEEP.replace("20 steps", "100k steps"))
    process = runs.start(arguments(endless, tmp_path / "w"))
    for line in process.stdout:
        if line.startswith("step"):
            break
    output = runs.run(["sweep", "status", f"--workdir={tmp_path / 'w'}"])
    assert "0 of 4 runs are done, 1 running, 3 waiting" in output
    process.send_signal(signal.SIGTERM)
    assert runs.finish(process)[0] == EXIT_RESUMABLE
    deadline = time.monotonic() + 60
    while "running" in runs.run(["sweep", "status", f"--workdir={tmp_path / 'w'}"]):
        assert time.monotonic() < deadline
