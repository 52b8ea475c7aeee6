"""Runs a verb on TPU slices of a GKE cluster: writes a JobSet, applies it with kubectl, and follows it.

    vit_jax launch gke --tpu_type=v6e-256 --image=... --bucket=my-bucket:/mnt -- train --config=... --workdir=/mnt/w
    vit_jax launch gke --xpk --cluster=c --tpu_type=v6e-256 --image=... -- train --config=... --workdir=...

The set is started again as a whole after exit status 42 and 128 to 255, and when a node is lost; other statuses fail it
for good. Ctrl-C ends the looking only. --xpk runs `xpk workload create` instead, on clusters that XPK made.
Credentials stay in Kubernetes Secrets: --secret_env=WANDB_API_KEY=my-secret:key.
"""

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from vit_jax.errors import BadSetting, UserError
from vit_jax.launch import gke_follow, jobset, restart, shell, tpu_types
from vit_jax.launch.flags import Shared, check, flag

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")  # with "-slice-0-0-xxxxx" behind it, below 63 characters


@dataclasses.dataclass(frozen=True)
class Settings(Shared):
    """Flags of `vit_jax launch gke`."""

    tpu_type: str = flag("", "slice by name, such as v5litepod-256, v6e-16 or v5p-128", "TYPE")
    topology: str = flag("", "slice by shape, such as v5e:16x16 or v5p:4x4x12")
    num_slices: int = flag(1, "slices, joined by the data centre's network: config.mesh.replica", "N")
    image: str = flag("", "container image that has vit_jax: see launch/Dockerfile (required)")
    name: str = flag("vit-jax", "name of the JobSet")
    namespace: str = flag("default", "namespace of the JobSet")
    queue: str = flag("", "Kueue's LocalQueue")
    chips_per_host: int = flag(4, "chips of a node", "N")
    bucket: tuple[str, ...] = flag((), "Cloud Storage bucket to mount, repeatable", "NAME:/PATH")
    claim: tuple[str, ...] = flag((), "PersistentVolumeClaim to mount, repeatable", "NAME:/PATH")
    secret_env: tuple[str, ...] = flag((), "variable from a Kubernetes Secret, repeatable", "NAME=SECRET:KEY")
    service_account: str = flag("", "Kubernetes service account of the pods", "NAME")
    grace_seconds: int = flag(120, "time to save between SIGTERM and SIGKILL", "SECONDS")
    ttl_seconds: int = flag(86_400, "time after which a finished JobSet is deleted", "SECONDS")
    xpk: bool = flag(False, "let xpk make the workload; needs --cluster")
    cluster: str = flag("", "with --xpk: name of the cluster", "NAME")
    project: str = flag("", "with --xpk: Google Cloud project")
    zone: str = flag("", "with --xpk: Google Cloud zone")

    def __post_init__(self) -> None:
        super().__post_init__()
        one = bool(self.tpu_type) != bool(self.topology)
        check(one, "tpu_type", self.tpu_type, "give either --tpu_type, such as v6e-16, or --topology, such as v6e:4x4")
        check(self.image, "image", self.image, "is required; launch/Dockerfile makes one")
        check(_NAME.fullmatch(self.name), "name", self.name, "use up to 40 small letters, digits and '-'")
        for name in ("num_slices", "chips_per_host"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("grace_seconds", "ttl_seconds"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "must be at least 0")
        check(bool(self.cluster) == self.xpk, "cluster", self.cluster, "goes with --xpk, and --xpk with it")
        self._check_slice()

    def _check_slice(self) -> None:
        field, text = ("tpu_type", self.tpu_type) if self.tpu_type else ("topology", self.topology)
        check(self.slice.kind.gke, field, text, "is not offered by GKE")
        check(self.slice.topology, field, text, "has no usual shape; give it: --topology=v5p:4x4x12")
        whole = self.slice.chips < self.chips_per_host or self.slice.chips % self.chips_per_host == 0
        check(whole, "chips_per_host", self.chips_per_host, f"must divide the {self.slice.chips} chips of the slice")

    @property
    def slice(self) -> tpu_types.Slice:
        """What one of the slices consists of."""
        if self.topology:
            return tpu_types.by_topology(self.topology, "topology")
        return tpu_types.by_type(self.tpu_type, "tpu_type")


def launch(settings: Settings, verb: Sequence[str]) -> int:
    """Runs `vit_jax <verb>` to its end and returns the exit status of the job.

    Raises:
      UserError: kubectl or xpk is not there or refuses; BadSetting: a credential in --env, a malformed flag.
    """
    variables = shell.environment(settings.env)
    for name in variables:
        fix = "looks like a credential, which no manifest may hold; use --secret_env=NAME=SECRET:KEY"
        check(not shell.is_credential(name), "--env", name, fix)
    return (_launch_xpk if settings.xpk else _launch_jobset)(settings, verb, variables)


def _launch_jobset(settings: Settings, verb: Sequence[str], variables: Mapping[str, str]) -> int:
    kubectl = ["kubectl", "--namespace", settings.namespace]
    command = [*kubectl, "apply", "--filename=-"]
    text = manifest(settings, verb, variables)
    follower = gke_follow.Follower(kubectl, settings.name)
    if settings.dry_run:
        print(shell.heredoc(shell.quote(command), text))
        print(f"# until the set has ended, at most {settings.max_restarts} times restarted by the cluster:")
        print(*(shell.quote(step) for step in (follower.state(), follower.logs())), sep="\n")
        return 0
    _need("kubectl")
    follower.refuse_ended()
    done = subprocess.run(command, input=text, text=True, capture_output=True, errors="surrogateescape")
    if done.returncode:
        raise UserError(" ".join(done.stderr.split()) or f"kubectl ended with {done.returncode}")
    restart.say(done.stdout.strip())
    return follower.follow()


def manifest(settings: Settings, verb: Sequence[str], variables: Mapping[str, str]) -> str:
    """The JobSet as YAML."""
    import yaml

    pods = jobset.Pods(
        image=settings.image,
        slice=settings.slice,
        num_slices=settings.num_slices,
        chips_per_host=settings.chips_per_host,
        variables=variables,
        secrets=_secrets(settings.secret_env),
        claims=_mounts("claim", settings.claim),
        buckets=_mounts("bucket", settings.bucket),
        service_account=settings.service_account,
        grace_seconds=settings.grace_seconds,
    )
    found = jobset.manifest(
        settings.name, pods, verb, settings.max_restarts, queue=settings.queue, ttl=settings.ttl_seconds
    )
    return yaml.safe_dump(found, sort_keys=False, default_flow_style=None, width=10_000)


def _secrets(texts: Sequence[str]) -> dict[str, tuple[str, str]]:
    found = {}
    for text in texts:
        match = re.fullmatch(r"([A-Za-z_]\w*)=([a-z0-9.-]+):([\w.-]+)", text)
        if not match:
            raise BadSetting("--secret_env", text, "write NAME=SECRET:KEY, as in WANDB_API_KEY=my-secret:key")
        found[match[1]] = (match[2], match[3])
    return found


def _mounts(flag_name: str, texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, _, path = text.partition(":")
        check(name and path.startswith("/"), f"--{flag_name}", text, "write NAME:/PATH, as in data:/mnt/data")
        found[name] = path
    return found


def _launch_xpk(settings: Settings, verb: Sequence[str], variables: Mapping[str, str]) -> int:
    command = xpk_command(settings, verb, variables)
    if settings.dry_run:
        print(shell.quote(command))
        return 0
    _need("xpk")
    return restart.shell_status(subprocess.run(command).returncode)


def xpk_command(settings: Settings, verb: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """The `xpk workload create` for the same job; XPK's own restart rule is ours, from 127 instead of 128."""
    for name in ("queue", "bucket", "claim", "secret_env", "service_account"):
        check(
            not getattr(settings, name), f"--{name}", getattr(settings, name), "is not for --xpk: XPK has its own way"
        )
    # XPK puts the text into a shell script inside a YAML block; exec, so that SIGTERM reaches the verb.
    text = jobset.literal(f"exec {shell.quote(['vit_jax', *verb])}")
    check("\n" not in text, "--xpk", text, "XPK takes no line breaks in flags")
    usual = settings.slice.topology in (*tpu_types.FLAT.values(), *tpu_types.DEEP.values())
    shape = settings.slice.accelerator_type if usual else f"{settings.slice.kind.name}-{settings.slice.topology}"
    options = {
        "cluster": settings.cluster,
        "project": settings.project,
        "zone": settings.zone,
        "workload": settings.name,
        "tpu-type": shape,
        "num-slices": settings.num_slices,
        "docker-image": settings.image,
        "max-restarts": settings.max_restarts,
        "termination-grace-period-seconds": settings.grace_seconds,
        "ttl-seconds-after-finished": settings.ttl_seconds,
        "command": text,
    }
    given = [f"--{name}={value}" for name, value in options.items() if value != ""]
    return ["xpk", "workload", "create", *given, *(f"--env={n}={v}" for n, v in variables.items())]


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise UserError(f"{program} is not on the PATH: install it, or use --dry_run to see what it would be given")
