"""Stands in for `gcloud compute tpus queued-resources`: its workers are folders of this machine, and ssh is a shell.

The folder $CLOUD holds `plan.json` ({"creations": [[state, ...], ...], "workers": n}): what `describe` answers one
after the other, for the first queued resource of the name, the second, and so on; the last answer stays. `calls.jsonl`
gets every command. Each worker has a home that lives as long as the resource. A file `disconnect` ends the next
`follow`, and the command that plan.json names in "refuse" fails.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLOUD = Path(os.environ["CLOUD"])
PLAN = json.loads((CLOUD / "plan.json").read_text())


def number(name: str) -> int:
    """A counter in a file."""
    path = CLOUD / name
    return int(path.read_text()) if path.exists() else 0


def homes() -> list[Path]:
    return sorted((CLOUD / "homes").glob("*"))


def create(name: str) -> int:
    if homes():
        return fail(f"ERROR: ALREADY_EXISTS: {name}")
    for i in range(PLAN["workers"]):
        (CLOUD / "homes" / f"w-{i}").mkdir(parents=True)
        hostname = CLOUD / "bin" / f"w-{i}" / "hostname"
        hostname.parent.mkdir(parents=True, exist_ok=True)
        hostname.write_text(f"#!/bin/sh\necho w-{i}\n")
        hostname.chmod(0o755)
    (CLOUD / "created").write_text(str(number("created") + 1))
    (CLOUD / "described").write_text("0")
    return 0


def describe(name: str) -> int:
    if not homes():
        return fail(f"ERROR: (gcloud) NOT_FOUND: Resource {name} was not found")
    states = PLAN["creations"][number("created") - 1]
    at = number("described")
    (CLOUD / "described").write_text(str(at + 1))
    print(states[min(at, len(states) - 1)])
    return 0


def delete(name: str) -> int:
    for home in homes():
        pid = home / "vit_jax_run" / "pid"
        if pid.exists():
            end_session(int(pid.read_text()))
        shutil.rmtree(home)
    return 0


def end_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def scp(*arguments: str) -> int:
    *files, target = arguments
    for home in homes():
        for file in files:
            shutil.copy(file, home / target.partition(":")[2])
    return 0


def ssh(command: str) -> int:
    """On all workers at once."""
    if "follow" in command and (CLOUD / "disconnect").exists():
        (CLOUD / "disconnect").unlink()
        time.sleep(0.3)
        return 255
    running = []
    for home in homes():
        path = f"{CLOUD}/bin/{home.name}:{os.environ['PATH']}"
        environment = {"CLOUD": str(CLOUD), "HOME": str(home), "PATH": path, "TMPDIR": str(CLOUD)}
        running.append(subprocess.Popen(["/bin/bash", "-c", command], cwd=home, env=environment))
    return max((process.wait() for process in running), default=255)


def fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


def main() -> int:
    arguments = sys.argv[1:]
    with (CLOUD / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    assert arguments[:3] == ["compute", "tpus", "queued-resources"], arguments
    verb, rest = arguments[3], [a for a in arguments[4:] if not a.startswith("--")]
    options = dict(a[2:].split("=", 1) for a in arguments[4:] if a.startswith("--") and "=" in a)
    if PLAN.get("refuse") == verb:
        return fail(f"ERROR: {verb} is refused")
    if verb == "ssh":
        return ssh(options["command"])
    return {"create": create, "describe": describe, "delete": delete, "scp": scp}[verb](*rest)


if __name__ == "__main__":
    sys.exit(main())
