"""Processes of this machine: their output, their end, and their restarts. No JAX in them: the launcher needs none."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vit_jax.errors import UserError
from vit_jax.launch import local

REPOSITORY = Path(__file__).parents[2]
ME = "import os, sys, time, signal, pathlib; me = int(os.environ['JAX_PROCESS_ID']); "


def python(code):
    return [sys.executable, "-c", ME + code]


def counted(folder, *statuses):
    """A process that ends with one status after the other, one at each start."""
    code = f"f = pathlib.Path({str(folder)!r}) / str(me); n = len(f.read_text()) if f.exists() else 0; "
    return python(code + f"f.write_text('x' * (n + 1)); print('start', n); sys.exit({statuses!r}[n])")


def test_every_process_knows_who_it_is(capfd):
    names = ["JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_CPU_DEVICES", "A"]
    code = f"print(me, *(os.environ[name] for name in {names}))"
    assert local.run(python(code), processes=3, devices=2, variables={"A": "a b"}) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    found = [re.fullmatch(r"\[(\d)\] (\d) 3 127\.0\.0\.1:(\d+) 2 a b", line) for line in lines]
    assert [(m[1], m[2]) for m in found] == [(str(i), str(i)) for i in range(3)]
    assert len({m[3] for m in found}) == 1


def test_the_output_of_each_process_is_kept(tmp_path, capfd):
    logs = tmp_path / "a b" / "logs"
    assert local.run(counted(tmp_path, 42, 0), processes=2, max_restarts=1, logs=logs) == 0
    for i in range(2):
        assert (logs / f"process_{i}.log").read_text() == "start 0\nstart 1\n"
    assert sorted(capfd.readouterr().out.splitlines()) == [f"[{i}] start {n}" for i in range(2) for n in range(2)]


def test_a_folder_for_logs_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--logs = .*Not a directory"):
        local.run(python("pass"), processes=1, logs=tmp_path / "file" / "logs")


@pytest.mark.parametrize("status", [1, 2, 3, 5])
def test_final_statuses_are_not_restarted(status, tmp_path):
    assert local.run(counted(tmp_path, status, 0), processes=2, max_restarts=3) == status


def test_restarts_end_when_they_are_used_up(tmp_path, capfd):
    assert local.run(counted(tmp_path, 42, 42, 42, 0), processes=1, max_restarts=2) == 42
    assert "all 2 restarts are used up" in capfd.readouterr().err


def test_a_killed_process_ends_the_others_and_is_restarted(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.3)
    code = f"f = pathlib.Path({str(tmp_path)!r}) / str(me); again = f.exists(); f.write_text(''); "
    code += "sys.exit(0) if again else None; print('last words', flush=True) if me else None; "
    code += "os.kill(os.getpid(), 9) if me == 1 else time.sleep(300)"
    assert local.run(python(code), processes=3, max_restarts=1) == 0
    said = capfd.readouterr().err
    assert "process 1 ended with 137 (ended by SIGKILL); the other 2 are killed if they have not ended" in said
    assert "process 1 failed first, with exit status 137 (ended by SIGKILL); its last lines:\n  last words\n" in said
    assert "restart 1 of 1" in said


def test_a_grandchild_that_keeps_the_output_open_is_killed_too(monkeypatch):
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.3)
    code = "sys.exit(1) if me else os.system('sleep 300')"
    assert local.run(python(code), processes=2) == 1


def test_the_first_failure_is_the_status_of_the_job_and_is_repeated(capfd):
    code = "print('the reason', flush=True) if me == 0 else time.sleep(0.5); sys.exit(3 if me == 0 else 134)"
    assert local.run(python(code), processes=2) == 3
    assert capfd.readouterr().err.endswith("exit status 3 (the loss diverged); its last lines:\n  the reason\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_process_once_and_ends_the_restarts(number, tmp_path):
    code = "got = []; signal.signal(SIG, lambda *_: got.append(1)); print('ready', flush=True)\n"
    code += "while not got: time.sleep(0.01)\ntime.sleep(0.2); print('signals', len(got)); sys.exit(42)"
    command = python(code.replace("SIG", f"signal.{number.name}", 1))
    script = f"import sys; from vit_jax.launch import local; sys.exit(local.run({command!r}, 2, max_restarts=5))"
    job = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    seen = [job.stdout.readline() for _ in range(2)]
    assert sorted(seen) == ["[0] ready\n", "[1] ready\n"]
    job.send_signal(number)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 42
    assert sorted(output.splitlines()) == ["[0] signals 1", "[1] signals 1"]


def test_a_dry_run_is_a_script_that_starts_the_same_processes(launch, programs, tmp_path):
    programs.add("recorder", 'printf "%s\\0" "$JAX_PROCESS_ID" "$A" "$A_TOKEN" "$@" > "$OUT/$JAX_PROCESS_ID"')
    verb = ["train", "--workdir=/mnt/a b;$(touch oops)'\"", "--config=x"]
    options = ["--processes=2", "--env=A=$x y", "--env=A_TOKEN=hunter2", "--max_restarts=3"]
    for spelling in ("--dry_run", "--dry-run"):
        done = launch("local", *options, spelling, "--", *verb)
        assert done.returncode == 0, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
    script = done.stdout.replace(sys.executable, "recorder")
    subprocess.run(["/bin/bash", "-c", script], env={**programs.environment, "OUT": str(tmp_path), "A_TOKEN": "z"})
    for i in range(2):
        assert (tmp_path / str(i)).read_text().split("\0")[:-1] == [str(i), "$x y", "z", "-m", "vit_jax", *verb]


@pytest.mark.slow
def test_the_script_and_the_verb_are_the_same(launch):
    verb = ["models", "Ti/16", "--json"]
    direct = launch("local", "--processes=2", "--", *verb)
    command = [sys.executable, str(REPOSITORY / "launch" / "local.py"), "--processes=2", "--", *verb]
    script = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert direct.returncode == script.returncode == 0
    assert sorted(direct.stdout.splitlines()) == sorted(script.stdout.splitlines())
    assert direct.stdout.count("[1] ") == len(direct.stdout.splitlines()) / 2 > 0
