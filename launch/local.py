"""Runs a verb as several processes on this machine, joined by `jax.distributed`.

    vit_jax launch local --processes=2 -- train --config=configs/digits.py --workdir=w

Every process sees the same command; their output is prefixed with their number. SIGTERM and Ctrl-C are passed on, so
that a training run saves and stops. When one process fails, the others get half a minute to end by themselves and are
killed then; what the first said last is repeated at the end. `python launch/local.py` is the same as
`vit_jax launch local`.
"""

import dataclasses
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from vit_jax.errors import EXIT_RESUMABLE, UserError
from vit_jax.launch import restart, shell
from vit_jax.launch.flags import Shared, check, flag
from vit_jax.launch.stream import Stream

GRACE_SECONDS = 30.0
SAVE_SECONDS = 600.0  # after the first 42: the others may still be writing the checkpoint
POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Settings(Shared):
    """Flags of `vit_jax launch local`."""

    max_restarts: int = flag(0, "starts again that often after exit status 42 or 128 to 255 (stopped, killed)", "N")
    processes: int = flag(1, "how many processes", "N")
    devices: int = flag(0, "fake CPU devices of each process (default: the real devices)", "N")
    logs: str = flag("", "folder that gets the output of each process, too: process_0.log, ...", "FOLDER")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.processes >= 1, "processes", self.processes, "must be at least 1")
        check(self.devices >= 0, "devices", self.devices, "must be at least 0")


def launch(settings: Settings, verb: Sequence[str]) -> int:
    """Runs `vit_jax <verb>` and returns the exit status of the job."""
    command = [sys.executable, "-m", "vit_jax", *verb]
    variables = shell.environment(settings.env)
    logs = Path(settings.logs) if settings.logs else None
    if settings.dry_run:
        _print_plan(settings, command, variables)
        return 0
    return run(command, settings.processes, settings.devices, settings.max_restarts, logs, variables)


def _print_plan(settings: Settings, command: Sequence[str], variables: Mapping[str, str]) -> None:
    print(f"# {settings.processes} processes at once; restarts: {settings.max_restarts}")
    if settings.logs:
        print(f"mkdir -p {shlex.quote(settings.logs)}")
    port = free_port()
    for i in range(settings.processes):
        added = joining(i, settings.processes, port, settings.devices)
        words = ["env", *shell.assignments({**variables, **added}), shell.quote(command)]
        if settings.logs:
            words.append(f"2>&1 | tee -a {shlex.quote(str(_log(Path(settings.logs), i)))}")
        print(*words, "&")
    print("wait")


def run(
    command: Sequence[str],
    processes: int,
    devices: int = 0,
    max_restarts: int = 0,
    logs: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Starts the processes, streams their output, waits for all, and starts them again by the restart rule.

    Args:
      command: what each process runs.
      processes: how many.
      devices: fake CPU devices of each; 0 uses what the machine has.
      max_restarts: how often all are started again.
      logs: folder that gets a file for each process.
      variables: more environment variables.

    Returns:
      0, or the exit status of the first process that ended otherwise.

    Raises:
      UserError: the folder for the logs cannot be made.
    """
    if logs:
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--logs = {str(logs)!r}: {error.strerror}") from None
    job = _Job(command, processes, devices, logs, {**os.environ, **(variables or {})})
    before = {number: signal.signal(number, job.pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return restart.run_until_final(job.attempt, max_restarts, lambda: job.stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def joining(process: int, processes: int, port: int, devices: int) -> dict[str, str]:
    """What `vit_jax.parallel.start` looks for, and the number of fake CPU devices if asked for."""
    added = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process),
    }
    if devices:
        added |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return added


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _log(folder: Path, process: int) -> Path:
    return folder / f"process_{process}.log"


class _Job:
    """The processes of the attempt under way."""

    def __init__(self, command: Sequence[str], processes: int, devices: int, logs: Path | None, base: dict[str, str]):
        self._command, self._processes, self._devices, self._logs, self._base = command, processes, devices, logs, base
        self._workers: list[subprocess.Popen] = []
        self.stopped = False

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: the processes get the signal, and none is started again."""
        self.stopped = True
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)

    def attempt(self) -> int:
        """Runs all processes to their end; the exit status of the job."""
        port = free_port()
        self._workers = [self._start(i, port) for i in range(self._processes)]
        names = [str(i) for i in range(self._processes)]
        logs = [_log(self._logs, i) if self._logs else None for i in range(self._processes)]
        streams = [Stream(*of) for of in zip(self._workers, names, logs, strict=True)]
        ended = self._wait()
        for stream in streams:
            stream.join()
        status = restart.job_status(code for _, code in ended)
        if status not in (0, EXIT_RESUMABLE) and self._processes > 1:
            _repeat(next(i for i, code in ended if code == status), status, streams)
        return status

    def _start(self, process: int, port: int) -> subprocess.Popen:
        return subprocess.Popen(
            self._command,
            env={**self._base, **joining(process, self._processes, port, self._devices)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # signals reach the workers through us, once
        )

    def _wait(self) -> list[tuple[int, int]]:
        """Waits for all; a failure gives the others some time. (process, exit status) in the order of their ends."""
        ended: list[tuple[int, int]] = []
        deadline: float | None = None
        while len(ended) < self._processes:
            running = set(range(self._processes)) - {i for i, _ in ended}
            for i in sorted(running):
                code = self._workers[i].poll()
                if code is None:
                    continue
                ended.append((i, restart.shell_status(code)))
                if code and deadline is None:
                    seconds = SAVE_SECONDS if code == EXIT_RESUMABLE else GRACE_SECONDS
                    deadline = time.monotonic() + seconds
                    _announce(i, restart.shell_status(code), len(running) - 1, seconds)
            if deadline is not None and time.monotonic() > deadline:
                self._kill()
            time.sleep(POLL_SECONDS)
        return ended

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)


def _announce(process: int, status: int, others: int, seconds: float) -> None:
    rest = f"; the other {others} are killed if they have not ended in {seconds:.0f} s" if others else ""
    restart.say(f"process {process} ended with {restart.explain(status)}{rest}")


def _repeat(process: int, status: int, streams: Sequence[Stream]) -> None:
    """The first real error once more: by now the consequences in other processes have scrolled it away."""
    restart.say(f"process {process} failed first, with exit status {restart.explain(status)}; its last lines:")
    for line in streams[process].last:
        print(f"  {line}", end="" if line.endswith("\n") else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    from vit_jax.__main__ import main

    sys.exit(main(["launch", "local", *sys.argv[1:]]))
