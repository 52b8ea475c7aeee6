"""The runner: order, failures, locks; training itself is played by a function that writes what training writes."""

import json
import os
import signal
import threading
import time

import jax
import pytest

from vit_jax.errors import Diverged, Stopped, UserError
from vit_jax.folder_lock import FolderLock
from vit_jax.scaling import (
    DataSize,
    Runner,
    Scope,
    Stopping,
    choose_runs,
    describe_sweep,
    load_sweep,
    read_study,
    run_folder,
    save_sweep,
)
from vit_jax.scaling import runner as module
from vit_jax.train import Reporter

SWEEP = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"model": {"variant": "mu/2"}, "data": {"name": "synthetic", "image_size": (8, 8)},
                       "train": {"batch_size": 16, "duration": "4 steps"}, "schedule": {"warmup": "0 steps"}})

def get_hyper(hyper):
    first = hyper.sweep("seed", [0, 1])
    return hyper.then(first, hyper.sweep("schedule.learning_rate", [1e-3, 1e-2]))
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "s.py").write_text(SWEEP)
    found = load_sweep(str(tmp_path / "s.py"))
    save_sweep(tmp_path / "w", found, describe_sweep(found, lambda settings: DataSize(1024, 10)))
    return found


class Training:
    """Plays `train`: notes the order, and does what it was told to for some runs."""

    def __init__(self, workdir):
        self.workdir, self.order, self.errors, self.seen = workdir, [], {}, {}

    def __call__(self, settings, folder, **options):
        self.order.append(folder.name)
        self.seen[folder.name] = settings
        if folder.name in self.errors:
            raise self.errors[folder.name]
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 4, "eval/accuracy": 0.5}) + "\n")
        (folder / "export").mkdir()
        (folder / "export" / "model.json").write_text("{}")


@pytest.fixture
def training(tmp_path, monkeypatch):
    played = Training(tmp_path / "w")
    monkeypatch.setattr(module, "train", played)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    return played


def run(sweep, training, **scope):
    Runner(sweep, training.workdir, Scope(**scope), Reporter(False)).run()
    return {r.cost.name: r for r in read_study(training.workdir).runs}


def test_parents_are_trained_before_those_that_start_from_them(sweep, training):
    found = run(sweep, training)
    assert [r.status for r in found.values()] == ["done"] * 6
    assert training.order == [r.name for r in sweep.runs]
    for r in sweep.runs:
        weights = str(run_folder(training.workdir, r.parent).absolute()) if r.parent else ""
        assert training.seen[r.name].init.checkpoint == weights
    assert all(r.seconds is not None and r.device_days for r in found.values())


def test_what_is_done_is_not_done_again(sweep, training):
    run(sweep, training)
    training.order.clear()
    run(sweep, training)
    assert training.order == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("config.data.name = 'x': no such data set"), 2, "config.data.name = 'x': no such data set"),
        (Diverged("step 3 diverged: loss = nan"), 3, "step 3 diverged: loss = nan"),
        (RuntimeError("a\nbug"), 1, "RuntimeError: a bug"),
    ],
)
def test_a_run_that_fails_does_not_stop_the_others(error, status, said, sweep, training, capsys):
    bad = sweep.runs[0].name
    training.errors[bad] = error
    found = run(sweep, training)
    assert (found[bad].status, found[bad].exit_status, found[bad].error) == ("failed", status, said)
    # Its children wait; the other parent and its children are done.
    assert [r.status for r in found.values()] == ["failed", "waiting", "waiting", "done", "done", "done"]
    training.errors.clear()
    again = run(sweep, training)
    expected = ["failed", "waiting", "waiting"] if status == 3 else ["done"] * 3
    assert [r.status for r in again.values()][:3] == expected
    assert {r.status for r in run(sweep, training, retry=True).values()} == {"done"}
    assert ("Traceback" in capsys.readouterr().err) == (status == 1)


def test_a_stopped_run_stops_all_and_goes_on_later(sweep, training):
    training.errors[sweep.runs[1].name] = Stopped("stopped after step 2")
    with pytest.raises(Stopped):
        run(sweep, training)
    statuses = [r.status for r in read_study(training.workdir).runs]
    assert statuses == ["done", "unfinished", "waiting", "waiting", "waiting", "waiting"]
    training.errors.clear()
    assert {r.status for r in run(sweep, training).values()} == {"done"}


def test_a_run_that_another_process_has_is_waited_for_and_not_touched(sweep, training):
    """The holder finishes it while we wait; its children become ours."""
    first = run_folder(training.workdir, sweep.runs[0].name)
    lock = FolderLock(first)
    assert lock.acquire()

    def finish():
        deadline = time.monotonic() + 60
        while len(training.order) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sweep.runs[0].name not in training.order
        Training.__call__(training, sweep.runs[0].settings, first)
        training.order.remove(sweep.runs[0].name)
        lock.release()

    other = threading.Thread(target=finish)
    other.start()
    found = run(sweep, training)
    other.join()
    assert {r.status for r in found.values()} == {"done"}
    assert training.order == [r.name for r in (*sweep.runs[3:], *sweep.runs[1:3])]


def test_what_is_running_is_seen(sweep, training):
    with FolderLock(run_folder(training.workdir, sweep.runs[0].name)):
        assert [r.status for r in read_study(training.workdir).runs][:2] == ["running", "waiting"]


def test_runs_that_differ_in_numbers_are_trained_together(sweep, training, monkeypatch):
    groups = []

    def play(settings, folders, reporter):
        groups.append([folder.name for folder in folders])
        assert all((folder / "lock").exists() for folder in folders)
        for own, folder in zip(settings, folders, strict=True):
            training(own, folder)
        return [None] * len(folders)

    monkeypatch.setattr(module, "train_together", play)
    found = run(sweep, training, together=3)
    names = [r.name for r in sweep.runs]
    assert groups == [[names[0], names[3]], [names[1], names[2], names[4]]]
    assert training.order[-1] == names[5]
    assert {r.status for r in found.values()} == {"done"}
    # The time of a group is shared by its runs.
    line = json.loads((run_folder(training.workdir, names[0]) / "attempts.jsonl").read_text())
    assert line["together"] == 2
    assert found[names[0]].seconds == pytest.approx(line["seconds"] / 2)
    assert line["devices"] == jax.device_count()


def test_only_some_runs(sweep, training):
    names = [r.name for r in sweep.runs]
    only = choose_runs(sweep, only=names[3][-8:])
    assert only == {*names[3:]}
    run(sweep, training, only=only)
    assert training.order == names[3:]
    assert choose_runs(sweep) is None
    assert choose_runs(sweep, only=f"{names[0]},{names[3]}", take=1) == only
    assert choose_runs(sweep, skip=names[4]) == {*names} - {names[4]}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"only": "nothing"}, "--only = 'nothing': no run has this name; "),
        ({"take": 6}, "--take = 6: there are 6 runs to choose from, counted from 0"),
        ({"skip": ""}, None),
    ],
)
def test_a_wrong_choice_is_named(choice, message, sweep):
    if message is None:
        assert choose_runs(sweep, **choice) == {run.name for run in sweep.runs}
        return
    with pytest.raises(UserError, match=message):
        choose_runs(sweep, **choice)


def test_a_signal_between_runs_stops_at_once():
    def work():
        with Stopping():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)

    with pytest.raises(Stopped, match="stopped between runs"):
        work()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
