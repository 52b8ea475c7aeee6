"""`vit_jax report` on the folder of a sweep."""

import json
import shutil

import pytest

from vit_jax.scaling import Attempt, DataSize, describe_sweep, load_sweep, record_attempt, run_folder, save_sweep

SWEEP = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"model": {"variant": "mu/2"}, "data": {"image_size": (8, 8)},
                       "train": {"batch_size": 16, "duration": "4 steps"}})

def get_hyper(hyper):
    return hyper.sweep("seed", [0, 1])
"""


@pytest.fixture
def workdir(trained, tmp_path):
    """A sweep of two runs: one was trained, one failed."""
    (tmp_path / "s.py").write_text(SWEEP)
    sweep = load_sweep(str(tmp_path / "s.py"))
    save_sweep(tmp_path / "w", sweep, describe_sweep(sweep, lambda settings: DataSize(1437, 10)))
    good, bad = (run_folder(tmp_path / "w", run.name) for run in sweep.runs)
    shutil.copytree(trained, good)
    record_attempt(bad, Attempt(2.0, 2, "config.data.name = 'x': does not exist"))
    return tmp_path / "w"


def test_a_real_workdir_is_read_and_reported(workdir, call):
    status, out, err = call("report", f"--workdir={workdir}")
    assert (status, err) == (0, "")
    assert out.startswith("1 of 2 runs are done, 1 failed")
    assert str(workdir / "report" / "report.html") in out
    markdown = (workdir / "report" / "report.md").read_text()
    assert "config.data.name = 'x': does not exist" in markdown
    assert (workdir / "report" / "learning_curves.png").is_file()


def test_json_gives_the_runs(workdir, tmp_path, call):
    out = call("report", f"--workdir={workdir}", f"--output={tmp_path / 'r'}", "--json").out
    good, bad = json.loads(out)
    lines = (workdir / "runs" / good["name"] / "metrics.jsonl").read_text().splitlines()
    last = [record for record in map(json.loads, lines) if "eval/accuracy" in record][-1]
    assert good["eval"] == pytest.approx(100 * last["eval/accuracy"])
    assert (good["status"], good["step"], good["config.seed"]) == ("done", 4, "0")
    assert (bad["status"], bad["error"]) == ("failed", "config.data.name = 'x': does not exist")
    assert (tmp_path / "r" / "report.html").is_file()
    assert not (workdir / "report").exists()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--workdir=nowhere"], "--workdir=nowhere: holds no sweep.json"),
        ([], "required: --workdir"),
        (["--workdir=w", "--config.seed=1"], "a report changes no setting"),
    ],
)
def test_bad_input_ends_in_one_line(argv, expected, call):
    status, out, err = call("report", *argv)
    assert (status, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
