"""Following a JobSet: its pods' output, its restarts, and its exit status."""

import json
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from vit_jax.errors import UserError
from vit_jax.launch import restart
from vit_jax.launch.jobset import NAME_LABEL
from vit_jax.launch.stream import Stream

POLL_SECONDS = 5.0
TRIES = 24  # looks that may fail one after another


class Follower:
    """Shows what the pods of a JobSet write.

    Args:
      kubectl: the program and its namespace.
      name: of the JobSet.
    """

    def __init__(self, kubectl: Sequence[str], name: str):
        self._kubectl, self._name = list(kubectl), name
        self._logs: subprocess.Popen | None = None
        self._stream: Stream | None = None
        self._shown_restart = -1  # the restart whose output has been shown from its beginning

    def state(self) -> list[str]:
        """Command that prints the JobSet."""
        return [*self._kubectl, "get", "jobset", self._name, "--output=json"]

    def pods(self) -> list[str]:
        """Command that prints the pods."""
        return [*self._kubectl, "get", "pods", f"--selector={NAME_LABEL}={self._name}", "--output=json"]

    def logs(self, *options: str) -> list[str]:
        """Command that shows the output of all pods until they end."""
        selected = [f"--selector={NAME_LABEL}={self._name}", "--prefix", "--tail=-1", "--max-log-requests=10000"]
        return [*self._kubectl, "logs", "--follow", *selected, *options]

    def refuse_ended(self) -> None:
        """Raises UserError if there is a JobSet of this name that has ended: applying it again would do nothing."""
        done = subprocess.run(self.state(), capture_output=True, text=True)
        if done.returncode:
            return
        ended = json.loads(done.stdout).get("status", {}).get("terminalState")
        if ended:
            command = " ".join([*self._kubectl, "delete", "jobset", self._name])
            raise UserError(f"JobSet {self._name} is there and has ended ({ended}): give another --name, or {command}")

    def follow(self) -> int:
        """Follows to the end; the exit status of the job. Ctrl-C ends the looking only."""
        try:
            while not (state := self._get(self.state()).get("status", {})).get("terminalState"):
                self._show(int(state.get("restarts", 0)))
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            ending = " ".join([*self._kubectl, "delete", "jobset", self._name])
            restart.say(f"the JobSet goes on; to end it: {ending}")
            return restart.PREEMPTED
        finally:
            self._end_logs()
        return self._status(state["terminalState"])

    def _get(self, command: Sequence[str]) -> dict[str, Any]:
        for _ in range(TRIES):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return json.loads(done.stdout)
            time.sleep(POLL_SECONDS)
        raise UserError(" ".join(done.stderr.split()) or f"kubectl ended with {done.returncode}")

    def _show(self, restarts: int) -> None:
        """Starts to show the output when there is some: once for each restart from its beginning."""
        if self._logs and self._logs.poll() is None:
            return
        phases = [pod.get("status", {}).get("phase") for pod in self._get(self.pods())["items"]]
        if not phases or "Pending" in phases:
            return
        again = restarts == self._shown_restart
        if not again and restarts:
            restart.say(f"the cluster has restarted the set: restart {restarts}")
        self._shown_restart = restarts
        command = self.logs(*([f"--since={max(1, round(POLL_SECONDS))}s"] if again else []))
        self._logs = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )
        self._stream = Stream(self._logs)

    def _end_logs(self) -> None:
        if self._logs and self._stream:
            try:
                self._logs.wait(timeout=POLL_SECONDS)  # the last lines
            except subprocess.TimeoutExpired:
                self._logs.terminate()
            self._stream.join()

    def _status(self, terminal: str) -> int:
        """0 for Completed, otherwise the exit status of the container that failed first."""
        restart.say(f"the JobSet has ended: {terminal}")
        if terminal == "Completed":
            return 0
        ended = []
        for pod in self._get(self.pods())["items"]:
            for container in pod.get("status", {}).get("containerStatuses", []):
                end = container.get("state", {}).get("terminated")
                if end:
                    ended.append((end.get("finishedAt", ""), int(end["exitCode"]), pod["metadata"]["name"]))
        failed = [(at, code, name) for at, code, name in sorted(ended) if code]
        if not failed:
            return 1
        _, code, name = failed[0]
        restart.say(f"{name} failed first, with exit status {restart.explain(code)}")
        return code
