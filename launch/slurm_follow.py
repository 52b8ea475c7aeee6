"""Submitting a SLURM job, showing its output, and its exit status."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vit_jax.errors import UserError
from vit_jax.launch import restart

POLL_SECONDS = 1.0
UNKNOWN_SECONDS = 120.0  # how long the controller may be away
_OVER = {
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "DEADLINE",
    "BOOT_FAIL",
    "PREEMPTED",
}


def need(program: str) -> None:
    """Raises UserError if the program is not there."""
    if shutil.which(program) is None:
        raise UserError(f"{program} is not on the PATH; run this on a login node of the cluster, or with --dry_run")


def submit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Runs sbatch; the number of the job.

    Raises:
      UserError: what sbatch says.
    """
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise UserError(" ".join(done.stderr.split()) or f"sbatch ended with {done.returncode}")
    return done.stdout.strip().partition(";")[0]  # id;cluster


def follow(job: str) -> int:
    """Shows what the job (or all jobs of the array) writes until all have ended; the exit status.

    Ctrl-C ends the looking only. A status of a requeued job is not its end.
    """
    shown: dict[str, int] = {}
    seen = time.monotonic()
    try:
        while True:
            records = states(job)
            for record in records:
                _show_more(record, shown)
            if records and all(_over(record) for record in records):
                return restart.job_status(_exit_status(record) for record in records)
            if records:
                seen = time.monotonic()
            elif time.monotonic() - seen > UNKNOWN_SECONDS:
                raise UserError(f"scontrol has known nothing of job {job} for {UNKNOWN_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        restart.say(f"job {job} goes on; scancel {job} ends it")
        return restart.PREEMPTED


def states(job: str) -> list[dict[str, str]]:
    """What `scontrol show job` says: a record for the job, or one for each job of an array; empty if unknown."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("JobId=")]
    return [dict(re.findall(r"(\w+)=(.*?)(?= [A-Za-z:/]+=|\s*$)", line)) for line in lines]


def _over(record: Mapping[str, str]) -> bool:
    return record["JobState"] in _OVER


def _exit_status(record: Mapping[str, str]) -> int:
    """`ExitCode=42:0` is status and signal; a job that was cancelled may have neither."""
    status, _, number = record["ExitCode"].partition(":")
    if int(number or 0):
        return 128 + int(number)
    return int(status) or (0 if record["JobState"] == "COMPLETED" else 1)


def _show_more(record: Mapping[str, str], shown: dict[str, int]) -> None:
    """Prints what the output file has got since the last look."""
    path = Path(record.get("StdOut", ""))
    if "%" in path.name or not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(shown.get(str(path), 0))
        new = file.read()
    shown[str(path)] = shown.get(str(path), 0) + len(new)
    sys.stdout.write(new.decode(errors="replace"))
    sys.stdout.flush()
