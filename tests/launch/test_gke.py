"""Applying and following a JobSet, against a stand-in for kubectl; the command for XPK."""

import json
import re
import shlex
import subprocess

import pytest
import yaml

from vit_jax.errors import BadSetting
from vit_jax.launch import gke, gke_follow

VERB = ["train", "--workdir=/mnt/a b;$(touch oops)'\""]
FLAGS = ["--tpu_type=v6e-8", "--image=img"]
# Answers from files: state1, state2, ... one after the other (the last stays); pods, logs.
KUBECTL = """\
cd "$KUBE" || exit 1
printf '%s\\n' "$*" >> calls
case "$*" in
  *"apply"*) cat > applied; echo "jobset.jobset.x-k8s.io/vit-jax created" ;;
  *"get jobset"*)
    [ -f applied ] || [ -f old ] || exit 1
    [ -f old ] && { cat old; exit; }
    n=$(cat n 2>/dev/null || echo 1); cat state$n; [ -f state$((n + 1)) ] && echo $((n + 1)) > n; exit 0 ;;
  *"get pods"*) cat pods ;;
  *"logs"*) cat logs ;;
esac"""


@pytest.fixture
def kube(programs, tmp_path, monkeypatch):
    folder = tmp_path / "kube"
    folder.mkdir()
    programs.add("kubectl", KUBECTL)
    programs.environment["KUBE"] = str(folder)
    monkeypatch.setattr(gke_follow, "POLL_SECONDS", 0.05)
    for name in ("PATH", "KUBE"):
        monkeypatch.setenv(name, programs.environment[name])
    (folder / "logs").write_text("[pod/a] line\n")
    return folder


def scripted(kube, *statuses, exits=()):
    for i, status in enumerate(statuses):
        (kube / f"state{i + 1}").write_text(json.dumps({"status": status}))
    items = [
        {
            "metadata": {"name": f"pod-{i}"},
            "status": {
                "phase": "Failed",
                "containerStatuses": [{"state": {"terminated": {"exitCode": code, "finishedAt": at}}}],
            },
        }
        for i, (code, at) in enumerate(exits or [(0, "2030-01-01T00:00:00Z")])
    ]
    (kube / "pods").write_text(json.dumps({"items": items}))


def run(*flags):
    settings = gke.Settings(tpu_type="v6e-8", image="img", **dict(flags))
    return gke.launch(settings, VERB)


def test_a_set_is_applied_and_followed_to_its_end(kube, capfd):
    scripted(kube, {}, {"restarts": 0}, {"restarts": 0}, {"restarts": 0, "terminalState": "Completed"})
    assert run() == 0
    shown = capfd.readouterr()
    assert "[pod/a] line\n" in shown.out
    assert "created" in shown.err
    assert "the JobSet has ended: Completed" in shown.err
    applied = yaml.safe_load((kube / "applied").read_text())
    assert applied == yaml.safe_load(gke.manifest(gke.Settings(tpu_type="v6e-8", image="img"), VERB, {}))
    calls = (kube / "calls").read_text().splitlines()
    assert all(call.startswith("--namespace default ") for call in calls)
    assert any("logs --follow --selector=jobset.sigs.k8s.io/jobset-name=vit-jax --prefix --tail=-1" in c for c in calls)


def test_the_status_is_that_of_the_container_that_failed_first(kube, capfd):
    exits = [(0, "2030-01-01T00:00:00Z"), (134, "2030-01-01T00:00:09Z"), (3, "2030-01-01T00:00:05Z")]
    scripted(kube, {}, {"terminalState": "Failed"}, exits=exits)
    assert run() == 3
    assert "pod-2 failed first, with exit status 3 (the loss diverged)" in capfd.readouterr().err


def test_a_set_that_fails_without_a_container_has_status_1(kube):
    scripted(kube, {}, {"terminalState": "Failed"})
    assert run() == 1


def test_restarts_are_said_and_their_output_is_shown_from_the_start(kube, capfd):
    scripted(kube, {}, {}, {"restarts": 1}, {"restarts": 1}, {"restarts": 1}, {"terminalState": "Completed"})
    assert run() == 0
    assert capfd.readouterr().err.count("the cluster has restarted the set: restart 1") == 1
    logs = [call for call in (kube / "calls").read_text().splitlines() if " logs " in call]
    assert sum("--since" not in call for call in logs) == 2


def test_a_set_of_this_name_that_has_ended_is_not_taken_for_the_new_one(kube, launch):
    (kube / "old").write_text(json.dumps({"status": {"terminalState": "Failed"}}))
    done = launch("gke", *FLAGS, "--", *VERB)
    assert done.returncode == 2
    assert re.fullmatch(r"vit_jax launch: JobSet vit-jax is there and has ended \(Failed\): .*\n", done.stderr)
    assert not (kube / "applied").exists()


def test_what_kubectl_refuses_is_said_in_one_line(programs, launch):
    programs.add("kubectl", 'echo "error: no" >&2; echo "  server" >&2; exit 1')
    done = launch("gke", *FLAGS, "--", *VERB)
    assert (done.returncode, done.stderr) == (2, "vit_jax launch: error: no server\n")


def test_no_kubectl_here_is_said(programs, launch):
    done = launch("gke", *FLAGS, "--", *VERB, env=programs.hide("kubectl"))
    assert (done.returncode, done.stderr[:43]) == (2, "vit_jax launch: kubectl is not on the PATH:")


def test_a_dry_run_does_nothing_and_applies_the_same(kube, launch, programs):
    scripted(kube, {"terminalState": "Completed"})
    shown = launch("gke", *FLAGS, "--dry_run", "--", *VERB)
    assert shown.returncode == 0
    assert not (kube / "calls").exists()
    applied = []
    for command in (["/bin/bash", "-c", shown.stdout], None):
        if command:
            subprocess.run(command, env=programs.environment, check=True, capture_output=True)
        else:
            assert run() == 0
        applied.append((kube / "applied").read_text())
        (kube / "applied").unlink()
    assert applied[0] == applied[1]


def test_credentials_are_refused_without_being_shown(launch):
    done = launch("gke", *FLAGS, "--env=A_TOKEN=hunter2", "--dry_run", "--", *VERB)
    assert done.returncode == 2
    assert "--secret_env=NAME=SECRET:KEY" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_xpk_is_asked_for_the_same_job(launch, programs, tmp_path):
    programs.add("xpk", 'printf "%s\\0" "$@" > "$OUT"; exit 5')
    flags = [*FLAGS, "--xpk", "--cluster=c", "--project=p", "--zone=z", "--num_slices=2", "--env=A=1", "--name=w"]
    environment = {**programs.environment, "OUT": str(tmp_path / "out")}
    assert launch("gke", *flags, "--", *VERB, env=environment).returncode == 5
    found = (tmp_path / "out").read_text().split("\0")[:-1]
    assert found[:2] == ["workload", "create"]
    options = dict(option[2:].split("=", 1) for option in found[2:])
    command = options.pop("command")
    assert options == {
        "cluster": "c",
        "project": "p",
        "zone": "z",
        "workload": "w",
        "tpu-type": "v6e-8",
        "num-slices": "2",
        "docker-image": "img",
        "max-restarts": "10",
        "termination-grace-period-seconds": "120",
        "ttl-seconds-after-finished": "86400",
        "env": "A=1",
    }
    # Kubernetes turns $$ into $, then a shell splits the text.
    assert shlex.split(command.replace("$$", "$")) == ["exec", "vit_jax", *VERB]
    (tmp_path / "out").unlink()
    shown = launch("gke", *flags, "--dry_run", "--", *VERB, env=environment)
    assert shlex.split(shown.stdout) == ["xpk", *found]
    assert not (tmp_path / "out").exists()


def test_xpk_gets_unusual_shapes_by_shape():
    settings = gke.Settings(topology="v5p:4x4x12", image="img", xpk=True, cluster="c")
    assert "--tpu-type=v5p-4x4x12" in gke.xpk_command(settings, VERB, {})


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"tpu_type": ""}, "tpu_type"),
        ({"topology": "v6e:4x4"}, "tpu_type"),
        ({"tpu_type": "v3-8"}, "tpu_type"),
        ({"tpu_type": "v5p-24"}, "tpu_type"),
        ({"image": ""}, "image"),
        ({"name": "Ab"}, "name"),
        ({"name": "a" * 41}, "name"),
        ({"num_slices": 0}, "num_slices"),
        ({"chips_per_host": 3}, "chips_per_host"),
        ({"xpk": True}, "cluster"),
        ({"cluster": "c"}, "cluster"),
        ({"grace_seconds": -1}, "grace_seconds"),
    ],
)
def test_bad_flags_are_refused(flags, field):
    with pytest.raises(BadSetting) as refused:
        gke.Settings(**{"tpu_type": "v6e-8", "image": "img", **flags})
    assert refused.value.field == field


@pytest.mark.parametrize("flags", [{"bucket": ("b",)}, {"claim": ("c:mnt",)}, {"secret_env": ("A=b",)}], ids=str)
def test_malformed_mounts_and_secrets_are_refused(flags):
    with pytest.raises(BadSetting, match="write NAME"):
        gke.manifest(gke.Settings(tpu_type="v6e-8", image="img", **flags), VERB, {})
