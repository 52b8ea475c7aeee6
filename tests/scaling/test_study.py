"""The folder of a sweep: written once, grown, and read back at any moment."""

import dataclasses
import json

import pytest

from tests.scaling.studies import cost
from vit_jax.errors import UserError
from vit_jax.scaling import Attempt, Sweep, SweepRun, read_study, record_attempt, run_folder, save_sweep
from vit_jax.settings import build
from vit_jax.train import RunSettings


def sweep_of(*seeds, rate=1e-3):
    runs = [
        SweepRun(f"seed{s}_x", {"config.seed": s}, build(RunSettings, {"seed": s, "schedule": {"learning_rate": rate}}))
        for s in seeds
    ]
    return Sweep("s.py", ("--config.log.every=1",), tuple(runs)), [cost(name=run.name) for run in runs]


@pytest.fixture
def workdir(tmp_path):
    save_sweep(tmp_path / "w", *sweep_of(0, 1))
    return tmp_path / "w"


def write_run(workdir, records=(), exported=False, name="seed0_x", tail=""):
    folder = run_folder(workdir, name)
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines + tail)
    if exported:
        (folder / "export").mkdir()
        (folder / "export" / "model.json").write_text("{}")
    return folder


def test_a_sweep_that_has_not_begun_waits(workdir):
    study = read_study(workdir)
    assert study.config == "s.py"
    assert [run.status for run in study.runs] == ["waiting", "waiting"]
    assert [run.cost for run in study.runs] == sweep_of(0, 1)[1]
    assert study.runs[1].overrides == {"config.seed": 1}
    assert study.runs[0].seconds is None


RECORDS = [
    {"step": 10, "loss": 2.0, "eval/accuracy": 0.25, "eval/loss": 1.5},
    {"step": 20, "loss": 1.0, "fewshot/cifar10/5_shot": 0.5, "imagenet2012/accuracy": 0.75, "eval/accuracy": "nan"},
    {"step": 30, "loss": "inf", "eval/accuracy": 0.5},
]


def test_numbers_are_the_newest_of_each_kind(workdir):
    write_run(workdir, RECORDS, exported=True)
    run = read_study(workdir).runs[0]
    assert (run.status, run.step) == ("done", 30)
    assert run.scores == {"eval": 50, "imagenet2012": 75}
    assert run.few_shot == {("fewshot/cifar10", 5): 50}
    assert len(run.records) == 3


@pytest.mark.parametrize("tail", ['{"step": 40, "lo', "[1]\n", "3\n"])
def test_half_a_line_of_a_run_that_is_writing_does_no_harm(tail, workdir):
    write_run(workdir, RECORDS, tail=tail)
    run = read_study(workdir).runs[0]
    assert (run.status, run.step) == ("unfinished", 30)


@pytest.mark.parametrize(
    ("attempts", "exported", "status", "error"),
    [
        ([Attempt(5, 42)], False, "unfinished", ""),
        ([Attempt(5, 0)], False, "unfinished", ""),  # ended without weights: go on
        ([Attempt(5, 3, "diverged")], False, "failed", "diverged"),
        ([Attempt(5, 3, "diverged"), Attempt(5, 42)], False, "unfinished", ""),
        ([Attempt(5, 42), Attempt(5, 1, "bug")], False, "failed", "bug"),
        ([Attempt(5, 3, "diverged"), Attempt(5, 0)], True, "done", ""),
        ([Attempt(5, 1, "killed while leaving")], True, "done", ""),
    ],
)
def test_the_status_comes_from_the_workdir_and_its_last_attempt(attempts, exported, status, error, workdir):
    folder = write_run(workdir, RECORDS, exported)
    for attempt in attempts:
        record_attempt(folder, attempt)
    run = read_study(workdir).runs[0]
    assert (run.status, run.error) == (status, error)


def test_a_run_that_failed_before_it_wrote_anything_is_failed(workdir):
    record_attempt(run_folder(workdir, "seed1_x"), Attempt(1, 2, "bad input"))
    assert [run.status for run in read_study(workdir).runs] == ["waiting", "failed"]


def test_time_and_devices_of_all_attempts_add_up(workdir):
    folder = write_run(workdir)
    record_attempt(folder, Attempt(86_400, 42, devices=8, device_kind="TPU v3"))
    record_attempt(folder, Attempt(43_200, 0, devices=4))
    run = read_study(workdir).runs[0]
    assert run.seconds == 129_600
    assert run.device_days == 8 + 2


# --- writing ---


def test_a_sweep_may_be_saved_again_and_may_grow(workdir):
    save_sweep(workdir, *sweep_of(0, 1))
    save_sweep(workdir, *sweep_of(2, 1, 0))
    assert [run.cost.name for run in read_study(workdir).runs] == ["seed2_x", "seed1_x", "seed0_x"]
    saved = json.loads((workdir / "sweep.json").read_text())
    assert build(RunSettings, saved["runs"][0]["settings"]) == sweep_of(2)[0].runs[0].settings
    assert saved["flags"] == ["--config.log.every=1"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (sweep_of(0), r"run seed1_x is gone; choose another --workdir"),
        (sweep_of(0, 1, rate=2e-3), r"run seed0_x had config.schedule.learning_rate = 0.001 and has 0.002 now"),
    ],
)
def test_a_sweep_that_has_begun_never_mixes_with_another(changed, message, workdir):
    before = (workdir / "sweep.json").read_bytes()
    with pytest.raises(UserError, match=message):
        save_sweep(workdir, *changed)
    assert (workdir / "sweep.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"'.*file/w' cannot be written"):
        save_sweep(tmp_path / "file" / "w", *sweep_of(0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no sweep.json"),
        ("{", "is not the description of a sweep"),
        ("[]", "is not the description of a sweep"),
        ('{"runs": []}', "KeyError: 'version'"),
        ('{"version": 7, "config": "", "flags": [], "runs": []}', "has version 7"),
        ('{"version": 1, "config": "", "flags": [], "runs": [{"name": ""}]}', "lacks something"),
    ],
)
def test_what_is_no_sweep_is_refused_in_one_line(content, message, tmp_path):
    if content is not None:
        (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read_study(tmp_path)
    assert "\n" not in str(error.value)


def test_costs_survive_the_file(workdir):
    for run in read_study(workdir).runs:
        assert dataclasses.asdict(run.cost) == dataclasses.asdict(cost(name=run.cost.name))
