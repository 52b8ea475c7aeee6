"""A process is killed, a save is cut short, the disk is full: nothing that was saved is lost."""

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from vit_jax.checkpoint import TrainingCheckpoints
from vit_jax.errors import EXIT_ABORTED, EXIT_UNSAVED
from vit_jax.train import METRICS_FILE, read_metrics

from . import runs

pytestmark = pytest.mark.long

TOTAL = 60
MINUTE = 60  # within which the others must have ended when a process of their job is killed


def _arguments(workdir, *more):
    return ["train", f"--workdir={workdir}", *runs.SYNTHETIC, *more]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that is never stopped, by the number of its processes; trained when first asked for."""
    found = {}

    def of(processes):
        if processes not in found:
            found[processes] = tmp_path_factory.mktemp("whole") / "w"
            runs.run(_arguments(found[processes]), processes=processes)
        return found[processes]

    return of


def _final_loss(workdir):
    return next(r["eval/loss"] for r in reversed(read_metrics(workdir / METRICS_FILE)) if "eval/loss" in r)


def _assert_same(workdir, whole):
    assert runs.losses(workdir) == runs.losses(whole)
    assert sorted(runs.losses(whole)) == list(range(1, TOTAL + 1))
    assert _final_loss(workdir) == _final_loss(whole)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_says_so_and_ends_within_a_minute(victim, whole, tmp_path):
    """Without a launcher, which would end the others itself. Process 0 is the one that JAX needs to notice anything."""
    arguments = _arguments(tmp_path / "w")
    jobs = runs.start_unwatched(arguments, processes=2, devices=1)
    runs.wait_for_step(jobs[0], 24)
    jobs[victim].kill()
    output, _ = jobs[1 - victim].communicate(timeout=MINUTE)
    status = jobs[1 - victim].returncode
    assert status in (EXIT_ABORTED, -signal.SIGABRT), output  # to a launcher these are the same
    ours = "Start the job again: a training run goes on from its last checkpoint" in output
    # JAX ends a process whose coordinator is gone at once, in its own words, unless we are quicker.
    assert ours or (victim == 0 and "another task died" in output), output
    assert "Traceback" not in output
    jobs[victim].communicate()
    complete = max(int(each.name) for each in (tmp_path / "w" / "checkpoints").iterdir() if each.name.isdigit())
    # The save before the last may be the newest: of steps of milliseconds several are taken while one is written.
    assert complete >= 7 * (max(runs.losses(tmp_path / "w")) // 7 - 1)
    assert f"resuming from step {complete} " in runs.run(arguments, processes=2)
    _assert_same(tmp_path / "w", whole(2))


def _kill_while_saving(arguments, workdir, processes):
    """Kills the main process as soon as a save has begun that is not complete."""
    job = runs.start(arguments, processes=processes)
    runs.wait_for_step(job, 1)
    seen = set(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))
    while job.poll() is None and set(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*")) <= seen:
        time.sleep(0.0005)
    if processes == 1:
        job.kill()
    elif job.poll() is None:
        runs.signal_worker(job, 0, runs.KILL)
    runs.finish(job)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_save_that_was_cut_short_is_never_loaded(processes, whole, tmp_path):
    workdir, cut_short = tmp_path / "w", 0
    arguments = _arguments(workdir, "--config.checkpoint.every=1")
    for _ in range(4):
        _kill_while_saving(arguments, workdir, processes)
        cut_short += bool(list(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*")))
    assert cut_short  # else no kill came within a save, and this shows nothing
    runs.run(arguments, processes=processes)
    assert not list(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))
    _assert_same(workdir, whole(processes))


@pytest.mark.parametrize("processes", [1, 2])
def test_ten_random_kills_leave_the_run_that_was_never_killed(processes, whole, tmp_path):
    """At any time: while it starts, trains, saves or evaluates; any of the processes."""
    chance, arguments = random.Random(processes), _arguments(tmp_path / "w", "--config.checkpoint.every=2")
    killed, newest = 0, 0
    while killed < 10:
        job = runs.start(arguments, processes=processes)
        if killed in (3, 7):
            time.sleep(chance.uniform(0, 3))
        else:
            runs.wait_for_step(job, newest + chance.randint(2, 7))
            time.sleep(chance.uniform(0, 0.05))
        if job.poll() is None and processes == 1:
            job.kill()
        elif job.poll() is None:
            runs.signal_worker(job, chance.randrange(processes), runs.KILL)
        status, output = runs.finish(job)
        assert status, output  # it was not done
        killed += 1
        newest = TrainingCheckpoints(tmp_path / "w" / "checkpoints").latest() or 0
    assert 0 < newest < TOTAL
    assert f"resuming from step {newest} " in runs.run(arguments, processes=processes)
    _assert_same(tmp_path / "w", whole(processes))


# The file system has room for one save, and then for all.
_FULL_DISK = """
mount -t tmpfs -o size=600k tmpfs "$1"; small="$1"; shift
"$@"; echo "status $?"; ls "$small"/w/checkpoints
mount -o remount,size=64m "$small"
"$@" && cp -r "$small"/w "$small"/../done
"""


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_full_disk_is_said_and_earlier_saves_are_kept(on_error, whole, tmp_path):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    tensorboard = f"--config.log.tensorboard={on_error == 'continue'}"
    arguments = _arguments(small / "w", f"--config.checkpoint.on_error={on_error}", tensorboard)
    train = [sys.executable, "-m", "vit_jax", *arguments]
    status, output = runs.finish(
        runs.start_command(["unshare", "-Urm", "sh", "-c", _FULL_DISK, "sh", str(small), *train])
    )
    assert status == 0, output
    first, _, second = output.partition("\nstatus ")
    complaint = (
        f"checkpoint {small}/w/checkpoints/14 could not be written: No space left on device; step 7 is the newest"
    )
    assert complaint in " ".join(first.split())
    assert "Traceback" not in output
    if on_error == "stop":
        assert second.startswith(f"{EXIT_UNSAVED}\n7\n")
        assert f"step {TOTAL}/{TOTAL}" not in first
    else:
        assert second.startswith("0\n7\n")
        assert f"step {TOTAL}/{TOTAL}" in first
        assert "going on (config.checkpoint.on_error=continue)" in first
    assert "resuming from step 7 " in second
    _assert_same(tmp_path / "done", whole(1))
