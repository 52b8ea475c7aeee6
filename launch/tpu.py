"""Runs a verb on Cloud TPU slices: queued resources that gcloud makes, waits for, and deletes at the end.

    vit_jax launch tpu --accelerator_type=v5litepod-256 --zone=us-west4-a --spot -- train --config=... --workdir=/mnt/w

Waits until the slice is ACTIVE, copies the files that git tracks (or --wheel), installs them, starts the verb on every
worker and shows what all of them print. A dead connection harms nothing: the same command attaches to the run again.
When the slice is preempted it is deleted, requested again, and the run goes on from its last checkpoint; so the workdir
must lie on a disk or bucket that is mounted on every worker (--setup can mount it). Ctrl-C saves, stops and deletes;
a second Ctrl-C leaves at once and says how to delete the slice.
"""

import contextlib
import dataclasses
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from vit_jax.errors import UserError
from vit_jax.launch import restart, shell, tpu_types
from vit_jax.launch.flags import Shared, check, flag
from vit_jax.launch.tpu_files import RUN, Files
from vit_jax.launch.tpu_job import Job
from vit_jax.launch.tpu_slice import Gcloud

_ID = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Settings(Shared):
    """Flags of `vit_jax launch tpu`."""

    accelerator_type: str = flag("", "slice, such as v5litepod-256, v6e-16 or v4-32 (required)", "TYPE")
    zone: str = flag("", "Google Cloud zone (required)")
    project: str = flag("", "Google Cloud project (default: gcloud's own)")
    name: str = flag("vit-jax", "name of the queued resource and of its nodes")
    num_slices: int = flag(1, "slices, joined by the data centre's network: config.mesh.replica", "N")
    runtime_version: str = flag("", "software of the TPU VMs (default: Google's for the type)", "VERSION")
    spot: bool = flag(False, "cheaper, may be preempted")
    reserved: bool = flag(False, "from your reservation")
    wheel: str = flag("", "install this wheel of vit_jax instead of the files that git tracks", "FILE")
    setup: str = flag("", "shell command on every worker before installing, for example to mount a bucket", "COMMAND")
    install: str = flag("", "shell command that installs, instead of uv and pip", "COMMAND")
    poll_seconds: float = flag(30.0, "time between two looks at the state of the slice", "SECONDS")
    keep: bool = flag(False, "leave the slice when the run has ended; the next launch uses it again")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.zone, "zone", self.zone, "is required, for example us-central2-b")
        check(_ID.fullmatch(self.name), "name", self.name, "use small letters, digits and '-'")
        check(self.num_slices >= 1, "num_slices", self.num_slices, "must be at least 1")
        check(self.poll_seconds > 0, "poll_seconds", self.poll_seconds, "must be positive")
        check(not (self.spot and self.reserved), "reserved", True, "leave out --spot or --reserved")
        fix = "is not offered by the Cloud TPU API: Ironwood needs GKE; use vit_jax launch gke"
        check(self.slice.kind.runtime, "accelerator_type", self.accelerator_type, fix)
        check(not self.wheel or Path(self.wheel).is_file(), "wheel", self.wheel, "there is no such file")

    @property
    def slice(self) -> tpu_types.Slice:
        """What one of the slices consists of."""
        return tpu_types.by_type(self.accelerator_type, "accelerator_type")


def launch(settings: Settings, verb: Sequence[str]) -> int:
    """Runs `vit_jax <verb>` to its end and returns the exit status of the job.

    Raises:
      UserError: gcloud is not there or refuses; a message of its own was shown before.
    """
    gcloud = Gcloud(
        name=settings.name,
        zone=settings.zone,
        project=settings.project,
        slice=settings.slice,
        num_slices=settings.num_slices,
        runtime_version=settings.runtime_version or settings.slice.kind.runtime,
        options=tuple(option for option in ("spot", "reserved") if getattr(settings, option)),
    )
    variables = shell.environment(settings.env)
    files = Files(verb, variables, settings.wheel, settings.setup, settings.install)
    if settings.dry_run:
        _print_plan(settings, gcloud, files)
        return 0
    if shutil.which("gcloud") is None:
        raise UserError("gcloud is not on the PATH: install the Google Cloud SDK, or use --dry_run")
    job = Job(gcloud, files, settings.slice.hosts * settings.num_slices, settings.poll_seconds)
    with _signals(job, gcloud):
        try:
            return restart.run_until_final(job.attempt, settings.max_restarts, lambda: job.stopped)
        finally:
            if not (settings.keep or job.left):
                job.delete()


@contextlib.contextmanager
def _signals(job: Job, gcloud: Gcloud) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks the job to stop; the second leaves at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if job.stopped:
            job.left = True
            raise UserError(f"left at once; the slice may still cost money: {shell.quote(gcloud.delete())}")
        job.stopped = True
        restart.say("stopping: the run saves its state; a second Ctrl-C leaves at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_plan(settings: Settings, gcloud: Gcloud, files: Files) -> None:
    """Everything as a shell script; the launcher's own decisions as comments."""
    hosts = settings.slice.hosts * settings.num_slices
    print(f"# {settings.num_slices} x {settings.slice.accelerator_type}: {hosts} workers")
    print(shell.quote(gcloud.create()))
    describe = shell.quote(gcloud.describe())
    print(f'until [ "$({describe})" = ACTIVE ]; do sleep {settings.poll_seconds:g}; done')
    print(shell.quote(gcloud.ssh(f"mkdir -p {RUN}")))
    print(shell.file("command.sh", files.command))
    print(*(f"# {line}\n" for line in files.about()), sep="", end="")
    print(shell.quote(gcloud.scp(files.paths(Path()))))
    print(shell.quote(gcloud.ssh(files.install())))
    print(shell.quote(gcloud.worker("start")))
    print(shell.quote(gcloud.worker("follow +1")))
    print("# no longer ACTIVE (preempted): deleted as below, and all from the top")
    print("# ended with 42 or 128 to 255: all but the code is copied again, then start and follow")
    print(f"# at most {settings.max_restarts} times, both together; at the end{', but for --keep' * settings.keep}:")
    print(("# " if settings.keep else "") + shell.quote(gcloud.delete()))
