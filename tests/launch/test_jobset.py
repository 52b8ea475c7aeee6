"""The JobSet against the published schema, which the package kubeflow-trainer-api ships as classes."""

import re
import warnings

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vit_jax.launch import gke, jobset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    models = pytest.importorskip("kubeflow_trainer_api.models.jobset_v1alpha2_job_set")

VERB = ["train", "--workdir=/mnt/w"]
# What the schema's classes know as plain strings, from the API's documentation (v1alpha2).
ACTIONS = {
    "FailJobSet",
    "RestartJobSet",
    "RestartJobSetAndIgnoreMaxRestarts",
    "RestartJob",
    "RestartJobAndIgnoreMaxRestarts",
}
REASONS = {
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
    "PodFailurePolicy",
}
STRATEGIES = {"Recreate", "BlockingRecreate", "InPlaceRestart"}


def made(verb=VERB, variables=(), **flags):
    given_flags = {"image": "img", "tpu_type": "v5litepod-256", **flags}
    return yaml.safe_load(gke.manifest(gke.Settings(**given_flags), verb, dict(variables)))


def missing(ours, theirs, path=""):
    """Paths of what the schema dropped or changed."""
    if isinstance(ours, dict):
        return [p for key, value in ours.items() for p in missing(value, theirs.get(key), f"{path}.{key}")]
    if isinstance(ours, list):
        theirs = theirs if isinstance(theirs, list) and len(theirs) == len(ours) else [None] * len(ours)
        return [p for i, pair in enumerate(zip(ours, theirs, strict=True)) for p in missing(*pair, f"{path}[{i}]")]
    return [] if ours == theirs else [path]


FULL = {
    "num_slices": 2,
    "queue": "q",
    "bucket": ("b:/mnt/b",),
    "claim": ("c:/mnt/c",),
    "secret_env": ("A_KEY=secret:key",),
    "service_account": "account",
}


@pytest.mark.parametrize("flags", [{}, FULL], ids=["plain", "full"])
def test_the_schema_accepts_every_field(flags):
    found = made(variables={"A": "1"}, **flags)
    assert missing(found, models.JobsetV1alpha2JobSet.from_dict(found).to_dict()) == []


def test_the_schema_would_see_a_mistake():
    found = made()
    found["spec"]["failurePolicy"]["maxRestart"] = 1
    assert missing(found, models.JobsetV1alpha2JobSet.from_dict(found).to_dict()) == [".spec.failurePolicy.maxRestart"]
    found["spec"]["replicatedJobs"][0]["replicas"] = "two"
    with pytest.raises(ValueError, match="replicas"):
        models.JobsetV1alpha2JobSet.from_dict(found)


def test_required_fields_are_there():
    """The schema's classes fill them in; these are those that the API's documentation calls required."""
    spec = made(**FULL)["spec"]
    (job,) = spec["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    rule = job["template"]["spec"]["podFailurePolicy"]["rules"][0]
    assert {"name", "template"} <= job.keys()
    assert {"name", "action"} <= spec["failurePolicy"]["rules"][0].keys()
    assert {"action", "onExitCodes"} <= rule.keys()
    assert {"operator", "values"} <= rule["onExitCodes"].keys()
    assert all({"name", "image"} <= container.keys() for container in pod["containers"])
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert sorted(mounts) == sorted(volume["name"] for volume in pod["volumes"])
    assert sorted(mounts.values()) == ["/mnt/b", "/mnt/c"]


def test_words_the_schema_leaves_open():
    policy = made()["spec"]["failurePolicy"]
    assert policy["restartStrategy"] in STRATEGIES
    for rule in policy["rules"]:
        assert rule["action"] in ACTIONS
        assert set(rule["onJobFailureReasons"]) <= REASONS
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])


def outcome(found, exit_status):
    """What a cluster does when a container ends so, by the rules of batch/v1 and of JobSet."""
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    reason = None
    for rule in job["podFailurePolicy"]["rules"]:
        codes = rule["onExitCodes"]
        assert codes["containerName"] == job["template"]["spec"]["containers"][0]["name"]
        assert codes["values"] == sorted(set(codes["values"]))
        assert len(codes["values"]) <= 255
        if reason is None and (exit_status in codes["values"]) == (codes["operator"] == "In"):
            assert rule["action"] == "FailJob"
            reason = "PodFailurePolicy"
    if reason is None:
        assert job["backoffLimit"] == 0
        reason = "BackoffLimitExceeded"
    for rule in found["spec"]["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"]:
            return rule["action"]
    return "RestartJobSet"


def test_the_cluster_restarts_by_our_rule():
    found = made()
    for status in range(1, 256):
        expected = "RestartJobSet" if status == 42 or status >= 128 else "FailJobSet"
        assert outcome(found, status) == expected


def test_restarts_are_limited():
    assert made(max_restarts=3)["spec"]["failurePolicy"]["maxRestarts"] == 3


@pytest.mark.parametrize(
    ("flags", "hosts", "chips", "label", "shape"),
    [
        ({"tpu_type": "v5litepod-256"}, 64, 4, "tpu-v5-lite-podslice", "16x16"),
        ({"tpu_type": "v6e-256"}, 64, 4, "tpu-v6e-slice", "16x16"),
        ({"tpu_type": "v6e-1"}, 1, 1, "tpu-v6e-slice", "1x1"),
        ({"tpu_type": "v5e-8"}, 2, 4, "tpu-v5-lite-podslice", "2x4"),
        ({"tpu_type": "v5e-8", "chips_per_host": 8}, 1, 8, "tpu-v5-lite-podslice", "2x4"),
        ({"tpu_type": "v4-16"}, 2, 4, "tpu-v4-podslice", "2x2x2"),
        ({"tpu_type": "", "topology": "v5p:4x4x12"}, 48, 4, "tpu-v5p-slice", "4x4x12"),
        ({"tpu_type": "tpu7x-128"}, 16, 4, "tpu7x", "4x4x4"),
    ],
)
def test_a_pod_for_each_host(flags, hosts, chips, label, shape):
    spec = made(**flags, num_slices=3)["spec"]
    (replicated,) = spec["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    assert (replicated["replicas"], job["parallelism"], job["completions"]) == (3, hosts, hosts)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": shape,
    }
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}


def expand(text, variables):
    """What Kubernetes makes of an argument: $(NAME) is filled in where NAME is known, $$ is $."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda m: "$" if m[1] == "$" else variables.get(m[2], m[0]),
        text,
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4))
@example(["$(A)", "$$(A)", "$$$(A)", "a b;\n'\"", "$(B)", "\x85\u2028", "yes", "1", "- x: y", "#"])
def test_the_container_gets_exactly_the_verb(verb):
    """Through YAML and through Kubernetes' own filling in."""
    container = made(["train", *verb], {"A": "$(B) $x"})["spec"]["replicatedJobs"][0]["template"]["spec"]["template"][
        "spec"
    ]["containers"][0]
    assert container["command"] == ["vit_jax"]
    assert [expand(text, {"A": "filled in"}) for text in container["args"]] == ["train", *verb]
    assert expand(container["env"][0]["value"], {"B": "filled in"}) == "$(B) $x"


def test_literal_is_undone_by_the_cluster():
    assert jobset.literal("$(A) $$ $") == "$$(A) $$$$ $$"
