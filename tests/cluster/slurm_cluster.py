"""A real SLURM on this machine: munged, slurmctld and slurmd on loopback, all their files in one folder.

    python tests/cluster/slurm_cluster.py FOLDER -- sinfo        # set up, run one command, tear down

Needs root and Debian's packages `slurm-wlm` and `munge` (`make cluster` installs them). Nothing outside the folder is
read or written: the daemons get their own configuration, key, socket, ports and spool, so a SLURM that the machine may
already run is left alone.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo")
NODE = "localhost"  # resolves everywhere, and so does the coordinator that JAX derives from it
CPUS = 4
SECONDS_TO_START = 60.0

# cred_expire: how long a requeued job waits, two minutes unless told; below 5 it is ignored.
CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=30
MinJobAge=600
SlurmdParameters=config_overrides
NodeName={node} NodeHostName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={node} Default=YES MaxTime=60 State=UP
"""


def missing() -> list[str]:
    """What this machine lacks to run the cluster; empty if nothing."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    return absent + (["root"] if os.geteuid() else [])


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Runs a cluster of one node with four CPUs while the block runs.

    Args:
      folder: an existing folder with a short path (a socket lies in it).

    Yields:
      The environment in which SLURM's commands talk to it.

    Raises:
      RuntimeError: the daemons do not come up; with the ends of their logs.
    """
    environment = _configure(folder)
    daemons: list[subprocess.Popen] = []
    try:
        daemons.append(_start(folder, environment, "munged", *_munge_options(folder)))
        _until(lambda: (folder / "munge.socket").exists(), folder, "munged makes no socket")
        daemons.append(_start(folder, environment, "slurmctld", "-D", "-c", "-f", str(folder / "slurm.conf")))
        daemons.append(_start(folder, environment, "slurmd", "-D", "-f", str(folder / "slurm.conf")))
        _until(lambda: "idle" in _ask(environment, "sinfo", "-h", "-o", "%T"), folder, "the node does not become idle")
        yield environment
    finally:
        _ask(environment, "scancel", "--user=root", "--signal=KILL", "--full")
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _configure(folder: Path) -> dict[str, str]:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (controller, controller_port), (node, node_port) = _port(), _port()
    with controller, node:
        config = CONFIG.format(
            host=socket.gethostname(),
            folder=folder,
            node=NODE,
            cpus=CPUS,
            controller_port=controller_port,
            node_port=node_port,
        )
    (folder / "slurm.conf").write_text(config)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    return {**clean, "SLURM_CONF": str(folder / "slurm.conf")}


def _port() -> tuple[socket.socket, int]:
    probe = socket.socket()
    probe.bind(("127.0.0.1", 0))
    return probe, probe.getsockname()[1]


def _munge_options(folder: Path) -> list[str]:
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    # Without --force munged refuses folders like /tmp that others may write to.
    return ["--foreground", "--force", *(f"--{option}={folder}/munge.{end}" for option, end in files.items())]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _start(folder: Path, environment: dict[str, str], name: str, *options: str) -> subprocess.Popen:
    program = _program(name)
    assert program is not None, name
    with (folder / f"{name}.out").open("w") as log:
        return subprocess.Popen([program, *options], env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def _ask(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30).stdout


def _until(ready, folder: Path, what: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not ready():
        if time.monotonic() > deadline:
            logs = [f"{path}:\n{path.read_text(errors='replace')[-2000:]}" for path in folder.glob("*.[lo][ou][gt]")]
            raise RuntimeError("\n".join([what, *logs]))
        time.sleep(0.2)


if __name__ == "__main__":
    root = Path(sys.argv[1]).absolute()
    root.mkdir(parents=True)
    with cluster(root) as surroundings:
        code = subprocess.run(sys.argv[3:], env=surroundings).returncode
    sys.exit(code)
