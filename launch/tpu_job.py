"""The life of a run on TPU slices: from a request in the queue to the exit statuses of all workers."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

from vit_jax.errors import EXIT_RESUMABLE, UserError
from vit_jax.launch import restart, shell
from vit_jax.launch.stream import Stream
from vit_jax.launch.tpu_files import RUN, Files
from vit_jax.launch.tpu_slice import Gcloud

WAITING = ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING")
GONE = ("SUSPENDING", "SUSPENDED", "FAILED", "DELETING")
GRACE_SECONDS = 60.0
SAVE_SECONDS = 600.0  # after the first 42: the others may still be writing the checkpoint
PATIENCE = 20  # looks at the state that may fail one after another
TRIES = 5  # of a command that fails although the slice is there: ssh is not up at once
_STATE = re.compile(r"vit_jax-worker (\S+) (\w*) (?:running|(\d+) ([\d.]+))")


Ended = tuple[float, int, str]  # time (seconds since 1970), exit status, host


class _Preempted(Exception):
    """The slice is no longer there."""


class Job:
    """A run on all workers of a queued resource.

    Args:
      gcloud: the commands.
      files: what is copied.
      workers: how many there are, on all slices together.
      poll_seconds: time between two looks at the state.

    Attributes:
      stopped: the person asked to stop; the run is told, and not started again.
      left: the person leaves at once; the slice stays.
    """

    def __init__(self, gcloud: Gcloud, files: Files, workers: int, poll_seconds: float):
        self._gcloud, self._files, self._workers, self._poll = gcloud, files, workers, poll_seconds
        self._installed = False
        self._reached, self._said = False, ""
        self._deadline: float | None = None
        self.stopped = self.left = False

    def attempt(self) -> int:
        """Brings the slice up, runs the verb on it and follows it; the exit status of the job."""
        try:
            found = self._bring_up()
            if self.stopped:
                return restart.PREEMPTED
            if not (found and not self._installed and self._running()):
                self._copy()
                self._run(self._gcloud.worker("start"))
            self._installed = True
            return self._follow()
        except _Preempted:
            self._installed = False
            restart.say("the slice was preempted")
            return restart.PREEMPTED

    def delete(self) -> None:
        """Deletes the queued resource, if there is one."""
        if self._state():
            restart.say("deleting the slice")
            subprocess.run(self._gcloud.delete())
        self._installed = False

    def _state(self) -> str:
        """One of Google's words, or nothing if there is no such queued resource."""
        for _ in range(PATIENCE if self._reached else 1):  # a connection that worked before may come back
            done = subprocess.run(self._gcloud.describe(), capture_output=True, text=True)
            if done.returncode == 0 or "NOT_FOUND" in done.stderr:
                break
            time.sleep(self._poll)
        else:
            raise UserError(" ".join(done.stderr.split()) or f"gcloud ended with {done.returncode}")
        self._reached = True
        state = done.stdout.strip()
        if state != self._said:
            self._said = state
            restart.say(f"the slice is {state or 'not requested yet'}")
        return state

    def _bring_up(self) -> bool:
        """Waits until the slice is ACTIVE, after requesting it if need be; whether it was there."""
        state = self._state()
        if state in GONE:
            self.delete()
            state = ""
        found = bool(state)
        if not found:
            done = subprocess.run(self._gcloud.create(), capture_output=True, text=True)
            if done.returncode:
                raise UserError(" ".join(done.stderr.split()) or f"gcloud ended with {done.returncode}")
        while (state := self._state()) != "ACTIVE" and not self.stopped:
            if state == "FAILED":
                raise UserError(f"the request failed; to see why: {shell.quote(self._gcloud.describe('yaml'))}")
            if state not in WAITING:
                raise _Preempted
            time.sleep(self._poll)
        return found

    def _running(self) -> bool:
        """Whether an earlier launch left the run going on every worker."""
        done = subprocess.run(self._gcloud.worker("state"), capture_output=True, text=True)
        found = [match for line in done.stdout.splitlines() if (match := _STATE.search(line))]
        running = [match[2] for match in found if match[3] is None]
        if any(mark != self._files.mark() for mark in running):
            self.left = True
            raise UserError("another run is under way on this slice: give another --name, or end that one first")
        if len(running) < self._workers:
            return False
        restart.say("the run is under way; attaching to it")
        return True

    def _copy(self) -> None:
        """Copies and installs; on a restart, only what the last start has used up."""
        if not self._installed:
            self._run(self._gcloud.ssh(f"mkdir -p {RUN}"))
        with self._files.written(code=not self._installed) as paths:
            self._run(self._gcloud.scp(paths))
        if not self._installed:
            self._run(self._gcloud.ssh(self._files.install()))

    def _run(self, command: list[str]) -> None:
        """Runs a command that must succeed.

        Raises:
          UserError: it fails again and again on a slice that is there.
        """
        for _ in range(TRIES):
            done = subprocess.run(command)
            if done.returncode == 0:
                return
            if self._state() != "ACTIVE":
                raise _Preempted
            time.sleep(self._poll)
        raise UserError(f"gcloud {command[4]} failed {TRIES} times; what it said is above")

    def _follow(self) -> int:
        """Shows what the workers print until all have ended; the exit status of the job."""
        lines = "+1"
        while True:
            follower = _Follower(self._gcloud.worker(f"follow {lines}"))
            for ended in self._looks(follower):
                self._end_the_rest(ended)
            follower.join()
            if len(follower.ended) == self._workers:
                return _job_status(sorted(follower.ended))
            if self._state() != "ACTIVE":
                raise _Preempted
            restart.say("the connection was lost; following again")
            time.sleep(self._poll)
            lines = "5"

    def _looks(self, follower: "_Follower") -> Iterator[list[Ended]]:
        """The workers that have ended so far, at every look; raises when the slice is gone."""
        stopping, next_look = False, time.monotonic() + self._poll
        while follower.running():
            if self.stopped and not stopping:
                stopping = True
                subprocess.run(self._gcloud.worker("stop"))
            if time.monotonic() > next_look:
                next_look = time.monotonic() + self._poll
                if self._state() != "ACTIVE":
                    follower.kill()
                    raise _Preempted
            yield follower.ended
            time.sleep(0.1)

    def _end_the_rest(self, ended: list[Ended]) -> None:
        """Some time after the first failure the workers that still run are killed."""
        failed = [(status, host) for _, status, host in ended if status]
        if not failed:
            self._deadline = None
            return
        if self._deadline is None:
            status, host = failed[0]
            seconds = SAVE_SECONDS if status == EXIT_RESUMABLE else GRACE_SECONDS
            self._deadline = time.monotonic() + seconds
            restart.say(f"{host} ended with {restart.explain(status)}; the others are killed in {seconds:.0f} s")
        elif time.monotonic() > self._deadline:
            subprocess.run(self._gcloud.worker("kill"))
            self._deadline = float("inf")


def _job_status(ended: list[Ended]) -> int:
    """The exit status of the job, and a word about who failed first."""
    status = restart.job_status(found for _, found, _ in ended)
    if status not in (0, EXIT_RESUMABLE):
        host = next(host for _, found, host in ended if found == status)
        restart.say(f"{host} failed first, with exit status {restart.explain(status)}")
    return status


class _Follower:
    """`worker.sh follow` on all workers: their lines, and which workers have ended."""

    def __init__(self, command: list[str]):
        self.ended: list[Ended] = []
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )
        self._stream = Stream(self._process, shown=self._shown)

    def _shown(self, line: str) -> bool:
        found = _STATE.search(line)
        if found and found[3]:
            self.ended.append((float(found[4]), int(found[3]), found[1]))
        return not found

    def running(self) -> bool:
        """Whether gcloud is still connected."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Disconnects; the workers go on. gcloud's own ssh processes would keep the output open."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self.join()

    def join(self) -> None:
        """Waits for the last line."""
        self._process.wait()
        self._stream.join()
