"""The whole life of a run on TPU slices, against a stand-in for gcloud; what runs on the workers runs for real here."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit_jax.errors import BadSetting
from vit_jax.launch import tpu

pytestmark = pytest.mark.slow

VERB = ["train", "--workdir=/mnt/a b;$(touch oops)'\""]
# What a worker runs in place of Python: it keeps its arguments, and ends with the next status of its list.
PROGRAM = """\
#!/bin/bash
trap 'echo saved; exit 42' TERM
mkdir -p "$CLOUD/seen"; printf '%s\\0' "$PWD" "$A" "$A_TOKEN" "$VIT_JAX_DISTRIBUTED" "$@" > "$CLOUD/seen/$(hostname)"
n=$(cat "$CLOUD/starts-$(hostname)" 2>/dev/null || echo 0); echo $((n + 1)) > "$CLOUD/starts-$(hostname)"
statuses=($(cat "$CLOUD/statuses-$(hostname)")); status=${statuses[$n]}
echo "start $n"
if [ "$status" = wait ]; then while :; do sleep 0.05; done; fi
sleep 0.2
exit $status"""
INSTALL = 'mkdir -p vit_jax_run/venv/bin; cp "$CLOUD/program" vit_jax_run/venv/bin/python'
ACTIVE = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]


class Cloud:
    """The stand-in, and what it was asked."""

    def __init__(self, folder: Path, programs):
        self.folder = folder
        folder.mkdir()
        (folder / "program").write_text(PROGRAM)
        (folder / "program").chmod(0o755)
        script = Path(__file__).with_name("fake_gcloud.py")
        programs.add("gcloud", f'exec {sys.executable} -IS {script} "$@"')
        programs.environment["CLOUD"] = str(folder)

    def plan(self, *creations, statuses, **more):
        """`statuses`: for each worker, how it ends at each start."""
        plan = {"creations": creations, "workers": len(statuses), **more}
        (self.folder / "plan.json").write_text(json.dumps(plan))
        for i, of_worker in enumerate(statuses):
            (self.folder / f"statuses-w-{i}").write_text(" ".join(map(str, of_worker)))

    def calls(self, *verbs):
        """The commands so far, of these verbs, without where."""
        found = [json.loads(line)[3:] for line in (self.folder / "calls.jsonl").read_text().splitlines()]
        return [call for call in found if not verbs or call[0] in verbs]

    def steps(self):
        """The commands in short: `create`, `scp`, `start`, ..., without those that only look."""
        short = []
        for call in self.calls("create", "delete", "scp", "ssh"):
            step = re.search(r"vit_jax_run/worker\.sh (\w+)", " ".join(call))
            short.append(step[1] if step else "mkdir" if "--command=mkdir" in " ".join(call) else call[0])
        return short


@pytest.fixture
def cloud(tmp_path, programs):
    cloud = Cloud(tmp_path / "cloud", programs)
    yield cloud
    for pid in cloud.folder.glob("homes/*/vit_jax_run/pid"):  # of a test that failed
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.killpg(int(pid.read_text()), signal.SIGKILL)


def flags(wheel, workers=1, **more):
    options = {"zone": "us-z", "poll_seconds": 0.1, "install": INSTALL, "wheel": wheel, "max_restarts": 3, **more}
    options["accelerator_type"] = {1: "v5litepod-8", 2: "v4-16"}[workers]
    return [f"--{name}={value}" if value is not True else f"--{name}" for name, value in options.items()]


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "vit_jax-0-py3-none-any.whl"
    path.write_text("")
    return path


UP = ["create", "mkdir", "scp", "ssh", "start", "follow"]


def test_from_the_queue_to_the_end(cloud, launch, wheel):
    cloud.plan(ACTIVE, statuses=[[0], [0]])
    extra = ["--env=A_TOKEN=hunter2", "--env=A=$x 'y", "--setup=echo ready > prepared"]
    done = launch("tpu", *flags(wheel, workers=2, project="p", spot=True), *extra, "--", *VERB)
    assert done.returncode == 0, done.stderr
    assert cloud.steps() == [*UP, "delete"]
    where = ["--zone=us-z", "--project=p", "--quiet"]
    kind = ["--accelerator-type=v4-16", "--runtime-version=tpu-ubuntu2204-base"]
    assert cloud.calls("create") == [["create", "vit-jax", "--node-id=vit-jax", *kind, "--spot", *where]]
    assert all(call[-3:] == where for call in cloud.calls())
    states = re.findall(r"the slice is (.*)", done.stderr)
    assert states == ACTIVE
    assert sorted(line for line in done.stdout.splitlines() if "start 0" in line) == ["[w-0] start 0", "[w-1] start 0"]
    for i in range(2):
        folder, *seen = (cloud.folder / "seen" / f"w-{i}").read_text().split("\0")[:-1]
        assert folder.endswith(f"/w-{i}/vit_jax_run/code")
        assert seen == ["$x 'y", "hunter2", "on", "-m", "vit_jax", *VERB]
    assert "hunter2" not in done.stdout + done.stderr + (cloud.folder / "calls.jsonl").read_text()


def test_several_slices(cloud, launch, wheel):
    cloud.plan(ACTIVE, statuses=[[0], [0]])
    done = launch("tpu", *flags(wheel, num_slices=2, reserved=True, runtime_version="r"), "--", *VERB)
    assert done.returncode == 0, done.stderr
    nodes = ["--node-count=2", "--node-prefix=vit-jax", "--accelerator-type=v5litepod-8", "--runtime-version=r"]
    assert cloud.calls("create") == [["create", "vit-jax", *nodes, "--reserved", "--zone=us-z", "--quiet"]]


def test_a_preempted_slice_is_deleted_and_requested_again(cloud, launch, wheel):
    cloud.plan([*ACTIVE, *["ACTIVE"] * 3, "SUSPENDING"], [*ACTIVE], statuses=[["wait", 0]])
    done = launch("tpu", *flags(wheel), "--env=A_TOKEN=hunter2", "--", *VERB)
    assert done.returncode == 0, done.stderr
    assert cloud.steps() == [*UP, "delete", *UP, "delete"]
    assert "the slice was preempted" in done.stderr
    assert "restart 1 of 3" in done.stderr
    assert (cloud.folder / "seen" / "w-0").read_text().split("\0")[2] == "hunter2"


def test_a_preemption_in_the_queue_is_one_too(cloud, launch, wheel):
    cloud.plan(["PROVISIONING", "SUSPENDED"], ["ACTIVE"], statuses=[[0]])
    done = launch("tpu", *flags(wheel), "--", *VERB)
    assert done.returncode == 0, done.stderr
    assert cloud.steps() == ["create", "delete", *UP, "delete"]


def test_a_failed_request_is_an_error_and_costs_nothing(cloud, launch, wheel):
    cloud.plan(["WAITING_FOR_RESOURCES", "FAILED"], statuses=[[0]])
    done = launch("tpu", *flags(wheel), "--", *VERB)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "vit_jax launch: the request failed; to see why: gcloud compute tpus queued-resources describe"
    )
    assert cloud.steps() == ["create", "delete"]


def test_a_run_that_may_go_on_is_started_again_on_the_same_slice(cloud, launch, wheel):
    cloud.plan(ACTIVE, statuses=[[42, 137, 0], [42, 0, 0]])
    done = launch("tpu", *flags(wheel, workers=2), "--env=A_TOKEN=hunter2", "--", *VERB)
    assert done.returncode == 0, done.stderr
    assert cloud.steps() == [*UP, *["scp", "start", "follow"] * 2, "delete"]
    assert (cloud.folder / "seen" / "w-0").read_text().split("\0")[2] == "hunter2"
    assert "w-0 failed first, with exit status 137 (ended by SIGKILL)" in done.stderr


@pytest.mark.parametrize("keep", [False, True])
def test_a_final_status_ends_the_job(keep, cloud, launch, wheel):
    cloud.plan(ACTIVE, statuses=[[3]])
    done = launch("tpu", *flags(wheel, **({"keep": True} if keep else {})), "--", *VERB)
    assert done.returncode == 3
    assert cloud.steps() == UP + ["delete"] * (not keep)


def test_a_lost_connection_harms_nothing(cloud, launch, wheel):
    cloud.plan(ACTIVE, statuses=[[0]])
    (cloud.folder / "disconnect").write_text("")
    done = launch("tpu", *flags(wheel), "--", *VERB)
    assert done.returncode == 0, done.stderr
    assert cloud.steps() == [*UP, "follow", "delete"]
    assert "[w-0] start 0" in done.stdout.splitlines()


def started(cloud, programs, arguments):
    """A launcher whose run has begun on the worker."""
    command = [sys.executable, "-m", "vit_jax", "launch", "tpu", *arguments, "--", *VERB]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=programs.environment, stdout=pipe, stderr=pipe, text=True)
    deadline = time.monotonic() + 60
    while not (cloud.folder / "seen" / "w-0").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_a_launcher_that_comes_back_attaches_to_the_run(cloud, launch, programs, wheel):
    cloud.plan(ACTIVE, statuses=[["wait"]])
    first = started(cloud, programs, flags(wheel))
    first.kill()
    first.wait()
    first.stdout.close()
    first.stderr.close()
    second = subprocess.Popen(
        [sys.executable, "-m", "vit_jax", "launch", "tpu", *flags(wheel), "--", *VERB],
        env=programs.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert second.stdout.readline().startswith("[w-0] --- start")
    os.killpg(int((cloud.folder / "homes/w-0/vit_jax_run/pid").read_text()), signal.SIGTERM)
    (cloud.folder / "statuses-w-0").write_text("wait 0")
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert "the run is under way; attaching to it" in said
    assert cloud.steps() == [*UP, "state", "follow", "scp", "start", "follow", "delete"]


def test_a_run_of_another_command_is_left_alone(cloud, launch, programs, wheel):
    cloud.plan(ACTIVE, statuses=[["wait"]])
    first = started(cloud, programs, flags(wheel))
    other = launch("tpu", *flags(wheel), "--", *VERB, "--config=other")
    assert other.returncode == 2
    assert other.stderr.splitlines()[-1].startswith("vit_jax launch: another run is under way on this slice")
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 42
    assert cloud.steps().count("delete") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_saves_and_deletes(number, cloud, programs, wheel):
    cloud.plan(ACTIVE, statuses=[["wait"]])
    process = started(cloud, programs, flags(wheel))
    process.send_signal(number)
    output, said = process.communicate(timeout=60)
    assert process.returncode == 42, said
    assert "[w-0] saved" in output.splitlines()
    assert sorted(cloud.steps()) == sorted([*UP, "stop", "delete"])


def test_one_worker_that_fails_ends_the_others(cloud, wheel, monkeypatch, capfd, programs):
    from vit_jax.launch import tpu_job

    cloud.plan(ACTIVE, statuses=[["wait"], [1]])
    monkeypatch.setattr(tpu_job, "GRACE_SECONDS", 0.3)
    for name in ("PATH", "CLOUD"):
        monkeypatch.setenv(name, programs.environment[name])
    settings = tpu.Settings(
        accelerator_type="v4-16", zone="z", poll_seconds=0.1, install=INSTALL, wheel=str(wheel), max_restarts=0
    )
    assert tpu.launch(settings, VERB) == 1
    said = capfd.readouterr().err
    assert "w-1 ended with 1 (a bug: see its traceback); the others are killed in 0 s" in said
    assert "w-1 failed first" in said
    assert cloud.steps() == [*UP, "kill", "delete"]


def test_what_gcloud_refuses_is_said_in_one_line(cloud, launch, wheel):
    cloud.plan(ACTIVE, statuses=[[0]], refuse="create")
    done = launch("tpu", *flags(wheel), "--", *VERB)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "vit_jax launch: ERROR: create is refused")


def test_a_step_that_always_fails_is_given_up(cloud, launch, wheel):
    cloud.plan(ACTIVE, statuses=[[0]])
    done = launch("tpu", *flags(wheel, install="false"), "--", *VERB)
    assert (done.returncode, done.stderr.splitlines()[-2]) == (2, "vit_jax launch: deleting the slice")
    assert done.stderr.splitlines()[-1] == "vit_jax launch: gcloud ssh failed 5 times; what it said is above"


def test_the_copied_code_is_what_git_tracks_as_it_is_on_the_disk(tmp_path, capsys):
    import tarfile

    from vit_jax.errors import UserError
    from vit_jax.launch import tpu_files

    with pytest.raises(UserError, match="is no git checkout"):
        tpu_files.pack(tmp_path, tmp_path / "x.tar.gz")
    repository = tmp_path / "r"
    (repository / "a b").mkdir(parents=True)
    for name in ("gone", "kept", "a b/new\nline", "untracked"):
        (repository / name).write_text("old")
    git = ["git", "-C", str(repository)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "gone", "kept", "a b"], check=True)
    (repository / "kept").write_text("changed")
    (repository / "gone").unlink()
    tpu_files.pack(repository, tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == {"kept": b"changed", "a b/new\nline": b"old"}
    assert "1 files, for example untracked" in capsys.readouterr().err


def test_a_dry_run_does_nothing_and_shows_the_same_commands(cloud, launch, wheel, programs, tmp_path):
    cloud.plan(ACTIVE, statuses=[[0]])
    extra = ["--env=A_TOKEN=hunter2", "--env=A=1"]
    shown = launch("tpu", *flags(wheel), *extra, "--dry_run", "--", *VERB)
    assert shown.returncode == 0
    assert not (cloud.folder / "calls.jsonl").exists()
    assert "hunter2" not in shown.stdout + shown.stderr
    launch("tpu", *flags(wheel), *extra, "--", *VERB)
    done = cloud.calls()
    (cloud.folder / "calls.jsonl").unlink()
    cloud.plan(ACTIVE, ACTIVE, statuses=[[0]], refuse="scp")  # some of its files are not made by the script
    script = ["timeout", "60", "/bin/bash", "-c", shown.stdout]
    subprocess.run(script, env=programs.environment, cwd=tmp_path, capture_output=True)
    doing, shown_doing = (
        [[re.sub(r"^/tmp/tmp\w+/", "", word) for word in call] for call in calls if call[0] != "describe"]
        for calls in (done, cloud.calls())
    )
    assert shown_doing == doing
    assert (tmp_path / "command.sh").read_text().splitlines()[:2] == ["export VIT_JAX_DISTRIBUTED=on", "export A=1"]


@pytest.mark.parametrize(
    ("flags", "field", "fix"),
    [
        ({"accelerator_type": "tpu7x-128"}, "accelerator_type", "Ironwood needs GKE; use vit_jax launch gke"),
        ({"zone": ""}, "zone", "is required"),
        ({"name": "A b"}, "name", "small letters"),
        ({"spot": True, "reserved": True}, "reserved", "leave out"),
        ({"wheel": "nowhere.whl"}, "wheel", "no such file"),
        ({"num_slices": 0}, "num_slices", "at least 1"),
    ],
)
def test_bad_flags_are_refused(flags, field, fix):
    with pytest.raises(BadSetting, match=re.escape(fix)) as refused:
        tpu.Settings(**{"accelerator_type": "v4-8", "zone": "z", **flags})
    assert refused.value.field == field
