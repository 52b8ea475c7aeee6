"""The JobSet (jobset.x-k8s.io/v1alpha2) that runs a verb on TPU slices of a Kubernetes cluster.

Sources: the API of JobSet and of batch/v1 Job, and GKE's documentation of TPU multislices.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.launch import restart
from vit_jax.launch.tpu_types import Slice

CONTAINER = "vit-jax"
NAME_LABEL = "jobset.sigs.k8s.io/jobset-name"


@dataclasses.dataclass(frozen=True)
class Pods:
    """What the pods are.

    Attributes:
      image: container image that has the command vit_jax.
      slice: chips of one slice.
      num_slices: how many slices.
      chips_per_host: of a node; 4 in most node pools.
      variables: environment.
      secrets: {variable: (Secret, key)}.
      claims: {PersistentVolumeClaim: path where it is mounted}.
      buckets: {Cloud Storage bucket: path}, through GKE's FUSE driver.
      service_account: Kubernetes service account; may be empty.
      grace_seconds: between SIGTERM and SIGKILL, to save.
    """

    image: str
    slice: Slice
    num_slices: int
    chips_per_host: int
    variables: Mapping[str, str]
    secrets: Mapping[str, tuple[str, str]]
    claims: Mapping[str, str]
    buckets: Mapping[str, str]
    service_account: str
    grace_seconds: int

    @property
    def hosts(self) -> int:
        """Pods of a slice."""
        return max(1, self.slice.chips // self.chips_per_host)


def manifest(name: str, pods: Pods, verb: Sequence[str], max_restarts: int, queue: str, ttl: int) -> dict[str, Any]:
    """The JobSet.

    Args:
      name: of the JobSet.
      pods: what runs.
      verb: what follows vit_jax.
      max_restarts: restarts of the whole set after exit status 42, 128 to 255, or the loss of a node.
      queue: Kueue's LocalQueue; may be empty.
      ttl: seconds after which a finished set is deleted.
    """
    job = {
        "parallelism": pods.hosts,
        "completions": pods.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [_final()]},
        "template": _template(pods, verb),
    }
    metadata: dict[str, Any] = {
        "name": name,
        # One slice to a node pool; GKE then also tells the slices of each other.
        "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
    }
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    rule = {"name": "final", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "ttlSecondsAfterFinished": ttl,
            # Blocking: the chips of a pod are free only when it is gone.
            "failurePolicy": {"maxRestarts": max_restarts, "restartStrategy": "BlockingRecreate", "rules": [rule]},
            "replicatedJobs": [{"name": "slice", "replicas": pods.num_slices, "template": {"spec": job}}],
        },
    }


def _final() -> dict[str, Any]:
    """Exit statuses after which the job has failed for good: all but those of the restart rule."""
    codes = {"containerName": CONTAINER, "operator": "NotIn", "values": list(restart.RESUMABLE)}
    return {"action": "FailJob", "onExitCodes": codes}


def _template(pods: Pods, verb: Sequence[str]) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": pods.grace_seconds,
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": pods.slice.kind.gke,
            "cloud.google.com/gke-tpu-topology": pods.slice.topology,
        },
        "containers": [_container(pods, verb)],
    }
    if pods.service_account:
        spec["serviceAccountName"] = pods.service_account
    volumes = [{"name": n, "persistentVolumeClaim": {"claimName": claim}} for n, claim, _ in _claims(pods)]
    fuse = "gcsfuse.csi.storage.gke.io"
    volumes += [
        {"name": n, "csi": {"driver": fuse, "volumeAttributes": {"bucketName": bucket}}}
        for n, bucket, _ in _buckets(pods)
    ]
    if volumes:
        spec["volumes"] = volumes
    template: dict[str, Any] = {"spec": spec}
    if pods.buckets:
        template["metadata"] = {"annotations": {"gke-gcsfuse/volumes": "true"}}
    return template


def _container(pods: Pods, verb: Sequence[str]) -> dict[str, Any]:
    chips = {"google.com/tpu": min(pods.slice.chips, pods.chips_per_host)}
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": pods.image,
        "command": ["vit_jax"],
        "args": [literal(argument) for argument in verb],
        "ports": [
            {"containerPort": port} for port in (8471, 8080)
        ],  # libtpu's, and that of the slices among each other
        "securityContext": {"privileged": True},  # the chips are devices of the node
        "resources": {"requests": chips, "limits": dict(chips)},
    }
    env: list[dict[str, Any]] = [{"name": name, "value": literal(value)} for name, value in pods.variables.items()]
    for name, (secret, key) in pods.secrets.items():
        env.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    mounts = [{"name": n, "mountPath": path} for n, _, path in [*_claims(pods), *_buckets(pods)]]
    return container | ({"env": env} if env else {}) | ({"volumeMounts": mounts} if mounts else {})


def _claims(pods: Pods) -> list[tuple[str, str, str]]:
    return [(f"claim-{i}", claim, path) for i, (claim, path) in enumerate(pods.claims.items())]


def _buckets(pods: Pods) -> list[tuple[str, str, str]]:
    return [(f"bucket-{i}", bucket, path) for i, (bucket, path) in enumerate(pods.buckets.items())]


def literal(text: str) -> str:
    """The text that Kubernetes turns into this one: it fills in $(NAME) in arguments and values; $$ is a plain $."""
    return text.replace("$", "$$")
