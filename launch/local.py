"""Runs a verb as several processes on this machine, joined by `jax.distributed`.

    python launch/local.py --processes=2 -- train --config=configs/digits.py --workdir=w

Every process sees the same command; their output is prefixed with their number. SIGTERM and Ctrl-C are passed on,
so that a training run saves and stops; when one process fails, the others are ended. The exit status is that of the
first process that did not end with 0.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

GRACE_SECONDS = 30.0


def environment(process: int, processes: int, port: int, devices: int) -> dict[str, str]:
    """What `vit_jax.parallel.start` looks for, and the number of fake CPU devices if asked for."""
    added = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process),
    }
    if devices:
        added |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return {**os.environ, **added}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command: Sequence[str], processes: int, devices: int = 0) -> int:
    """Starts the processes, streams their output, and waits for all.

    Args:
      command: what each process runs.
      processes: how many.
      devices: fake CPU devices of each; 0 uses what the machine has.

    Returns:
      0, or the exit status of the first process that ended otherwise.
    """
    port = free_port()
    workers = [
        subprocess.Popen(
            command,
            env=environment(i, processes, port, devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # signals reach the workers through us, once
        )
        for i in range(processes)
    ]
    streams = [threading.Thread(target=_stream, args=(i, worker)) for i, worker in enumerate(workers)]
    for stream in streams:
        stream.start()

    def pass_on(number: int, frame: object) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(workers)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for stream in streams:
            stream.join()


def _stream(number: int, worker: subprocess.Popen) -> None:
    assert worker.stdout is not None
    with worker.stdout:
        for line in worker.stdout:
            print(f"[{number}] {line}", end="", flush=True)


def _wait(workers: Sequence[subprocess.Popen]) -> int:
    """Waits for all; a failure gives the others some time to end by themselves."""
    first, deadline = 0, None
    while any(worker.poll() is None for worker in workers):
        failed = [worker.returncode for worker in workers if worker.poll()]
        if failed and deadline is None:
            first, deadline = failed[0], time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
        time.sleep(0.05)
    codes = [worker.returncode for worker in workers if worker.returncode]
    return _status(first or (codes[0] if codes else 0))


def _status(code: int) -> int:
    """A shell's view of a process ended by a signal: 128 + its number."""
    return code if code >= 0 else 128 - code


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--devices", type=int, default=0, help="fake CPU devices of each process (default: real ones)")
    parser.add_argument("command", nargs="+", metavar="VERB ...", help="after --: what follows vit_jax")
    flags = parser.parse_args(argv)
    if flags.processes < 1 or flags.devices < 0:
        parser.error("--processes must be at least 1, --devices at least 0")
    return run([sys.executable, "-m", "vit_jax", *flags.command], flags.processes, flags.devices)


if __name__ == "__main__":
    sys.exit(main())
