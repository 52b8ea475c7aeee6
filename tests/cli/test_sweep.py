"""`vit_jax sweep`: what it shows, and what it hands to the launchers."""

import json
import re
import shlex

import pytest

from vit_jax.launch import many
from vit_jax.scaling import choose_runs, load_sweep, run_folder

SWEEP = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({
        "model": {"variant": "mu/4"}, "data": {"name": "synthetic", "image_size": (8, 8)},
        "train": {"batch_size": 16, "duration": "20 steps"}, "schedule": {"warmup": "2 steps"},
    })

def get_hyper(hyper):
    return hyper.then(hyper.sweep("seed", [0, 1, 2]), hyper.fixed("schedule.learning_rate", 1e-2))
"""
GKE = ("--", "--tpu_type=v6e-8", "--image=gcr.io/p/i")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my_sweep.py"
    path.write_text(SWEEP)
    return path


@pytest.fixture
def sweep(config):
    return load_sweep(str(config))


def finish(workdir, name):
    """What the end of a run leaves there."""
    export = run_folder(workdir, name) / "export"
    export.mkdir(parents=True)
    (export / "model.json").write_text("{}")


def test_a_dry_run_shows_rows_and_writes_nothing(call, config, sweep, tmp_path):
    shown = call("sweep", f"--config={config}", f"--workdir={tmp_path / 'w'}", "--dry-run")
    assert (shown.status, len(shown.out.splitlines())) == (0, 1 + 3 + 1)
    assert "3 runs and 3 transfers" in shown.out
    rows = json.loads(call("sweep", f"--config={config}", "--dry_run", "--json").out)
    assert [name for row in rows for name in (row["name"], row["transfers"][0]["name"])] == [r.name for r in sweep.runs]
    assert not (tmp_path / "w").exists()


def test_elements_of_the_slurm_array_are_the_rows_that_are_missing(call, config, sweep, tmp_path):
    first = [run.name for run in sweep.runs if not run.parent or run.parent == sweep.runs[0].name][:2]
    for name in first:
        finish(tmp_path / "w", name)
    where = (f"--workdir={tmp_path / 'w'}", "--where=slurm", "--parallel=1", "--dry_run")
    shown = call("sweep", f"--config={config}", *where, "--config.log.every=7", "--", "--nodes=2")
    assert shown.status == 0
    assert {"#SBATCH --array=0-1%1", "#SBATCH --nodes=2"} <= set(shown.out.splitlines())
    (command,) = re.findall(r"-m vit_jax (sweep .*) &$", shown.out, re.MULTILINE)
    elements = []
    for index in range(2):
        flags = shlex.split(command.replace("${SLURM_ARRAY_TASK_ID}", str(index)))
        values = dict(flag.partition("=")[::2] for flag in flags)
        assert (values["--where"], values["--config.log.every"]) == ("here", "7")
        elements += choose_runs(sweep, values["--only"], int(values["--take"]))
    assert sorted(elements) == sorted(run.name for run in sweep.runs if run.name not in first)
    for name in {run.name for run in sweep.runs} - set(first):
        finish(tmp_path / "w", name)
    assert call("sweep", f"--config={config}", *where).out.splitlines()[-1] == "# all of it is done"


def test_every_row_is_a_job_of_its_own_on_gke(call, config, sweep, monkeypatch):
    where = (f"--config={config}", "--workdir=/mnt/w", "--where=gke")
    shown = call("sweep", *where, "--dry_run", *GKE)
    ends = [run.name[-8:] for run in sweep.runs if not run.parent]
    assert re.findall(r"^  name: (.*)$", shown.out, re.MULTILINE) == [f"my-sweep-{end}" for end in ends]
    assert [f"--only={end}" in shown.out for end in ends] == [True] * 3
    asked = []
    monkeypatch.setattr(
        many, "run_all", lambda commands, at_once: asked.append((commands, at_once)) or {"a": 0, "b": 3}
    )
    assert call("sweep", *where, "--parallel=2", *GKE, "--name=st").status == 3
    ((commands, at_once),) = asked
    assert (list(commands), at_once) == (ends, 2)
    assert {command[:3] == ["launch", "gke", f"--name=st-{end}"] for end, command in commands.items()} == {True}


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--dry_run", "--", "--nodes=2"], "--where=local takes no flags after --"),
        (["--dry_run", "--together=0"], "--together must be at least 1"),
        ([], "--workdir is required"),
        (["--dry_run", "--where=slurm", "--", "--array=0-3"], "the sweep sets it itself; --parallel=N limits"),
    ],
)
def test_wrong_flags_are_one_line(flags, complaint, call, config, capsys):
    try:
        status, err = (found := call("sweep", f"--config={config}", *flags)).status, found.err
    except SystemExit as end:
        status, err = end.code, capsys.readouterr().err
    assert status == 2
    assert complaint in err


def test_the_status_of_what_is_no_sweep_is_refused(call, tmp_path):
    found = call("sweep", "status", f"--workdir={tmp_path}")
    assert found.status == 2
    assert "holds no sweep.json" in found.err
