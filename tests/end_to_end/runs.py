"""Starting `vit_jax` as a person would, in processes of its own, and reading what it wrote."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.quick_compile import QUICK_COMPILE
from vit_jax.launch.local import free_port, joining
from vit_jax.train import METRICS_FILE, read_metrics

REPOSITORY = Path(__file__).parents[2]
TIMEOUT = 240

SYNTHETIC = [
    "--config=configs/digits.py",
    "--config.model.variant=mu/2",
    "--config.data.name=synthetic",
    "--config.train.duration=60 steps",
    "--config.train.ema_decay=0",
    "--config.log.every=1",
    "--config.log.tensorboard=False",
    "--config.checkpoint.every=7",
    "--config.evaluate.every=20",
]


def start(
    arguments: Sequence[str],
    *,
    processes: int = 1,
    devices: int = 1,
    max_restarts: int = 0,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Starts a verb; several processes, and restarts, go through `launch/local.py`."""
    command = [sys.executable, "-m", "vit_jax", *arguments]
    if processes > 1 or max_restarts:
        launcher = str(REPOSITORY / "launch" / "local.py")
        options = [f"--processes={processes}", f"--devices={devices}", f"--max_restarts={max_restarts}"]
        command = [sys.executable, launcher, *options, "--", *arguments]
    return start_command(command, devices=devices, variables=variables)


def start_command(
    command: Sequence[str], *, devices: int = 1, variables: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Starts a command with what every process of these tests needs."""
    environment = {
        **os.environ,
        "XLA_FLAGS": QUICK_COMPILE,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONUNBUFFERED": "1",
        **(variables or {}),
    }
    return subprocess.Popen(
        command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def start_unwatched(arguments: Sequence[str], *, processes: int, devices: int) -> list[subprocess.Popen]:
    """The processes of a job without a launcher: nobody ends the others when one is gone, but they themselves."""
    port = free_port()
    return [
        start(arguments, devices=devices, variables=joining(process, processes, port, devices))
        for process in range(processes)
    ]


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for the end: (exit status, output)."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output


def run(arguments: Sequence[str], *, processes: int = 1, devices: int = 1) -> str:
    """Runs a verb that must succeed; its output."""
    status, output = finish(start(arguments, processes=processes, devices=devices))
    assert status == 0, output
    return output


def run_script(name: str, arguments: Sequence[str], *, processes: int, devices: int) -> None:
    """Runs a script of this folder as several processes, all of which must succeed."""
    status, output = script(name, arguments, processes=processes, devices=devices)
    assert status == 0, output


def script(name: str, arguments: Sequence[str], *, processes: int, devices: int) -> tuple[int, str]:
    """Runs a script of this folder as several processes, through the launcher's own functions: (status, output)."""
    environment = {"XLA_FLAGS": QUICK_COMPILE, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(Path(__file__).parent / name), *arguments]
    code = f"import sys; from local import run; sys.exit(run({command!r}, {processes}, {devices}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": str(REPOSITORY / "launch")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout


def interrupt(arguments: Sequence[str], number: int, step: int, *, processes: int = 1, devices: int = 1) -> int:
    """Starts a training run and sends it a signal once `step` was reported; its exit status."""
    process = start(arguments, processes=processes, devices=devices)
    wait_for_step(process, step)
    process.send_signal(number)
    return finish(process)[0]


def wait_for_step(process: subprocess.Popen, step: int) -> None:
    """Reads the output of a training run until it has come to `step`."""
    assert process.stdout is not None
    deadline = time.monotonic() + TIMEOUT
    for line in process.stdout:
        found = re.search(r"step +(\d+)/", line)
        if found and int(found[1]) >= step:
            return
        assert time.monotonic() < deadline


def signal_worker(launcher: subprocess.Popen, worker: int, number: int) -> None:
    """Sends a signal to one of the processes that a launcher has started, by its JAX_PROCESS_ID."""
    for child in psutil.Process(launcher.pid).children():
        if child.environ().get("JAX_PROCESS_ID") == str(worker):
            child.send_signal(number)
            return
    raise AssertionError(f"no worker {worker}")


def losses(workdir: Path) -> dict[int, float]:
    """{step: training loss}; a step that appears twice is an error."""
    records = [r for r in read_metrics(workdir / METRICS_FILE) if "loss" in r]
    assert len({r["step"] for r in records}) == len(records)
    return {r["step"]: r["loss"] for r in records}


KILL, TERM = signal.SIGKILL, signal.SIGTERM
