"""`vit_jax launch slurm` on a real SLURM: slurmctld, slurmd and munge of this machine."""

import json
import re
import subprocess
import sys

import pytest

from vit_jax.train import METRICS_FILE, read_metrics

# Generous: jobs wait for each other, and a requeued one for SLURM.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

STEPS = 24


def training(workdir, digits_dir, *more):
    return [
        "train",
        "--config=configs/digits.py",
        f"--workdir={workdir}",
        "--config.model.variant=mu/2",
        f"--config.data.data_dir={digits_dir}",
        f"--config.train.duration={STEPS} steps",
        "--config.log.every=1",
        "--config.log.tensorboard=False",
        "--config.checkpoint.every=9",
        "--config.evaluate.every=12",
        *more,
    ]


def losses(workdir):
    """{step: loss}; a step that appears twice is an error."""
    path = workdir / METRICS_FILE
    records = [r for r in read_metrics(path) if "loss" in r] if path.exists() else []
    assert len({r["step"] for r in records}) == len(records)
    return {r["step"]: r["loss"] for r in records}


def program(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module", autouse=True)
def failing(slurm, tmp_path_factory):
    """A job, submitted before all others because it takes a while: task 1 fails and task 0 hangs."""
    text = '[ "$SLURM_PROCID" = 1 ] && exit 3; exec sleep 300'
    python = program(tmp_path_factory.mktemp("failing") / "python", text)
    return slurm.submit("--job_name=failing", "--ntasks_per_node=2", f"--python={python}", "--", "train")


@pytest.fixture(scope="module")
def whole(slurm, tmp_path_factory, digits_dir):
    """The workdir of a job of two tasks that was never stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "a b;$(touch oops)'"
    done = slurm.launch("--ntasks_per_node=2", "--wait", "--", *training(workdir, digits_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0: devices   2 cpu devices as data 2, 2 processes" in done.stdout
    assert "exit status 0 after start 1 of at most 11" in done.stdout
    return workdir


def test_a_job_of_two_tasks_trains_digits_to_the_end(whole):
    assert list(losses(whole)) == list(range(1, STEPS + 1))
    assert (whole / "export" / "model.npz").exists()
    last = [r for r in read_metrics(whole / METRICS_FILE) if "eval/accuracy" in r][-1]
    assert last["step"] == STEPS
    assert losses(whole)[STEPS] < losses(whole)[1]


def test_a_job_that_is_preempted_twice_has_the_losses_of_one_that_is_not(slurm, whole, tmp_path, digits_dir):
    """First the signal before a time limit, then a requeue from outside."""
    workdir = tmp_path / "w"
    job = slurm.submit("--ntasks_per_node=2", "--", *training(workdir, digits_dir))
    slurm.wait(job, lambda: len(losses(workdir)) >= 4)
    slurm.ask("scancel", "--signal=TERM", "--batch", job)  # what --signal=B:TERM@120 does
    slurm.wait(job, lambda: "Restarts=1 " in slurm.show(job))
    first = len(losses(workdir))
    slurm.wait(job, lambda: len(losses(workdir)) >= first + 4)
    slurm.ask("scontrol", "requeue", job)
    slurm.wait(job, lambda: "JobState=COMPLETED" in slurm.show(job))
    output = slurm.output(job)
    assert 4 <= first < STEPS
    assert "Restarts=2 " in slurm.show(job)
    assert "exit status 42 after start 1 of at most 11" in output
    assert "exit status 0 after start 3 of at most 11" in output
    assert len(re.findall("0: resuming from step", output)) == 2
    assert losses(workdir) == losses(whole)


def test_an_array_runs_a_sweep_of_four_learning_rates(slurm, tmp_path, digits_dir):
    verb = training(
        tmp_path / "w{index}",
        digits_dir,
        "--config.train.duration=3 steps",
        "--config.schedule.learning_rate=1e-{index}",
    )
    done = slurm.launch("--array=1-4%2", "--wait", "--", *verb)
    assert done.returncode == 0, done.stdout + done.stderr
    for i in range(1, 5):
        workdir = tmp_path / f"w{i}"
        assert json.loads((workdir / "config.json").read_text())["schedule"]["learning_rate"] == 10.0**-i
        assert list(losses(workdir)) == [1, 2, 3]
    assert len({losses(tmp_path / f"w{i}")[3] for i in range(1, 5)}) == 4
    assert done.stdout.count("exit status 0 after start 1") == 4


def test_a_process_of_the_batch_script_itself_is_alone(slurm, tmp_path, digits_dir):
    """Two tasks are allocated, but without srun there is one process; and so it is in a step of one task."""
    for front in ("", "srun --ntasks=1 "):
        workdir = tmp_path / f"w{len(front)}"
        verb = training(workdir, digits_dir, "--config.train.duration=1 steps")
        command = front + subprocess.list2cmdline([sys.executable, "-m", "vit_jax", *verb])
        options = ["--wait", "--ntasks=2", f"--output={tmp_path}/out", f"--wrap={command}"]
        job = slurm.ask("sbatch", "--parsable", *options)
        assert "devices   1 cpu device as one, 1 process\n" in (tmp_path / "out").read_text(), (
            job,
            (tmp_path / "out").read_text(),
        )
        assert list(losses(workdir)) == [1]


def test_the_processes_get_exactly_the_arguments_and_the_credential(slurm, tmp_path):
    python = program(tmp_path / "python", f'printf "%s\\0" "$A_TOKEN" "$@" > "{tmp_path}/$SLURM_PROCID"')
    verb = ["train", "--workdir=/mnt/a b;$(touch oops)'\"\n\\", "", "*", "{index}"]
    options = ["--ntasks_per_node=2", f"--python={python}", "--job_name=exact", "--wait", "--env=A_TOKEN=hunter2"]
    done = slurm.launch(*options, "--", *verb)
    assert done.returncode == 0, done.stdout + done.stderr
    for i in range(2):
        assert (tmp_path / str(i)).read_text().split("\0")[:-1] == ["hunter2", "-m", "vit_jax", *verb]
    assert "hunter2" not in (slurm.jobs / "exact.sbatch").read_text() + done.stdout + done.stderr


def test_bad_input_is_final(slurm):
    done = slurm.launch("--wait", "--job_name=bad", "--", "train", "--config=nowhere.py", "--workdir=w")
    assert done.returncode == 2
    assert "0: vit_jax train: config file 'nowhere.py' does not exist" in done.stdout
    assert "exit status 2 after start 1" in done.stdout


def test_a_cancelled_job_stays_cancelled(slurm, tmp_path):
    """Even one that ends with 42 because of it."""
    ready = tmp_path / "ready"
    python = program(tmp_path / "python", f'trap "exit 42" TERM; touch "{ready}"; while :; do sleep 0.1; done')
    job = slurm.submit("--job_name=cancelled", f"--python={python}", "--", "train")
    slurm.wait(job, ready.exists)
    slurm.ask("scancel", job)
    slurm.wait(job, lambda: "JobState=CANCELLED" in slurm.show(job) and not slurm.ask("squeue", "-h", "-j", job))
    assert "Restarts=0 " in slurm.show(job)
    assert "exit status 42 after start 1" in slurm.output(job, "cancelled")


def test_a_task_that_fails_ends_the_job_with_its_own_status(slurm, failing):
    """srun by itself would report that of the task that had to be killed."""
    slurm.wait(failing, lambda: "JobState=FAILED" in slurm.show(failing))
    assert "ExitCode=3:0 " in slurm.show(failing)
    assert "task 1 on localhost ended with 3; after 30 s the others are killed" in slurm.output(failing, "failing")
    assert re.search("task 0: (Killed|Exited with exit code 143)", slurm.output(failing, "failing"))
