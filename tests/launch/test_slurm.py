"""The batch script, run by a real shell with stand-ins for SLURM's commands; tests/cluster has the real ones."""

import os
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vit_jax.errors import BadSetting
from vit_jax.launch import slurm, slurm_follow

VERB = ["train", "--config=c.py"]
# srun runs the command once for each task, in turn, and reports the largest exit status.
SRUN = """\
while [ "${1#--}" != "$1" ]; do echo "srun option $1"; shift; done
worst=0
for SLURM_PROCID in $(seq 0 $((TASKS - 1))); do
  export SLURM_PROCID SLURM_NTASKS=$TASKS SLURMD_NODENAME=n0
  "$@"; status=$?
  [ $status -gt $worst ] && worst=$status
done
exit $worst"""


@pytest.fixture
def cluster(programs):
    """Stand-ins that say what they were asked."""
    programs.add("srun", SRUN)
    programs.add("squeue", 'echo "${STATE:-RUNNING}"')
    programs.add("scontrol", 'echo "scontrol $*"')
    programs.add("sleep", "exit 0")
    programs.environment |= {"SLURM_JOB_ID": "7", "TASKS": "1"}
    for name in [name for name in programs.environment if name.startswith("SLURM_ARRAY")]:
        del programs.environment[name]
    return programs


def script(folder, verb=VERB, variables=(), **flags):
    return slurm.batch_script(slurm.Settings(**flags), verb, dict(variables), folder)


def run(text, programs, **variables):
    done = subprocess.run(
        ["/bin/bash", "-c", text], env={**programs.environment, **variables}, capture_output=True, text=True
    )
    return done.returncode, done.stdout


def test_the_header_asks_for_what_was_wanted(tmp_path):
    flags = {"nodes": 2, "gpus_per_node": 8, "cpus_per_task": 12, "time": "10:00", "partition": "a", "account": "b"}
    text = script(tmp_path, qos="c", mem="0", sbatch=("--exclusive", "--comment=x y"), **flags)
    options = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    assert text.startswith("#!/bin/bash\n#SBATCH ")
    assert options == [
        "--job-name=vit_jax",
        f'--output="{tmp_path}/vit_jax-%j.out"',
        "--open-mode=append",
        "--nodes=2",
        "--ntasks-per-node=8",
        "--gpus-per-node=8",
        "--cpus-per-task=12",
        "--mem=0",
        "--time=10:00",
        "--partition=a",
        "--account=b",
        "--qos=c",
        "--signal=B:TERM@120",
        "--requeue",
        "--exclusive",
        "--comment=x y",
    ]
    assert "srun --kill-on-bad-exit=1 --label --cpus-per-task=12 bash" in text
    assert "gpus-per-task" not in text


def test_an_option_of_sbatch_takes_the_place_of_ours(tmp_path):
    text = script(tmp_path, sbatch=("--signal=B:TERM@600",))
    assert re.findall(r"^#SBATCH --signal.*$", text, re.MULTILINE) == ["#SBATCH --signal=B:TERM@600"]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10), max_size=3))
@example(["--workdir=/mnt/a b;$(touch x)'\"\n", "TASK", "END", "{index}"])
def test_the_task_gets_exactly_the_verb(cluster, tmp_path, verb):
    recorder = cluster.add("recorder", 'printf "%s\\0" "$@" > "$OUT"')
    variables = {"A": "$HOME 'x'\n"}
    text = script(tmp_path, ["train", *verb], variables, python=str(recorder), array="0-3")
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "5"}
    status, _ = run(text, cluster, OUT=str(tmp_path / "out"), **array)
    found = (tmp_path / "out").read_bytes().decode().split("\0")[:-1]
    assert (status, found) == (0, ["-m", "vit_jax", "train", *(text.replace("{index}", "3") for text in verb)])


def ending(cluster, *statuses):
    """A program whose task i ends with statuses[i]."""
    return str(cluster.add("ending", f"statuses=({' '.join(map(str, statuses))}); exit ${{statuses[$SLURM_PROCID]}}"))


@pytest.mark.parametrize("status", [42, 134, 137, 143])
def test_what_may_go_on_is_requeued(status, cluster, tmp_path):
    text = script(tmp_path, python=ending(cluster, status), max_restarts=2)
    assert run(text, cluster)[0] == status
    assert "scontrol requeue 7\n" in run(text, cluster)[1]
    assert "scontrol requeue 7\n" in run(text, cluster, SLURM_RESTART_COUNT="1")[1]
    assert "scontrol" not in run(text, cluster, SLURM_RESTART_COUNT="2")[1]


@pytest.mark.parametrize("status", [0, 1, 2, 3, 127])
def test_other_statuses_are_final(status, cluster, tmp_path):
    found, output = run(script(tmp_path, python=ending(cluster, status)), cluster)
    assert found == status
    assert "scontrol" not in output


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", "PENDING", ""])
def test_a_cancelled_job_does_not_come_back(state, cluster, tmp_path):
    status, output = run(script(tmp_path, python=ending(cluster, 42)), cluster, STATE=state or " ")
    assert status == 42
    assert "scontrol" not in output


def test_one_job_of_an_array_is_requeued_by_its_own_name(cluster, tmp_path):
    text = script(tmp_path, python=ending(cluster, 42), array="0-3")
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "5"}
    assert "scontrol requeue 5_3\n" in run(text, cluster, **array)[1]


@pytest.mark.parametrize(
    ("statuses", "expected", "again"),
    [((1, 134), 1, False), ((0, 2), 2, False), ((137, 1), 137, True), ((42, 134), 42, True), ((0, 0), 0, False)],
)
def test_the_first_failure_is_the_status_of_the_job(statuses, expected, again, cluster, tmp_path):
    status, output = run(script(tmp_path, python=ending(cluster, *statuses)), cluster, TASKS="2")
    assert status == expected
    assert ("scontrol requeue" in output) == again
    assert not list(tmp_path.glob(".*"))


def test_credentials_are_in_no_file_and_nowhere_shown(launch, programs, tmp_path):
    programs.add("sbatch", 'echo "$A_TOKEN" > "$OUT"; echo "11;cluster"')
    flags = ["--env=A_TOKEN=hunter2", "--env=B=1", f"--job_dir={tmp_path / 'jobs'}"]
    shown = launch("slurm", *flags, "--dry_run", "--", *VERB)
    assert not (tmp_path / "jobs").exists()
    done = launch("slurm", *flags, "--", *VERB, env={**programs.environment, "OUT": str(tmp_path / "out")})
    assert done.returncode == 0, done.stderr
    assert "job 11 submitted" in done.stderr
    assert (tmp_path / "out").read_text() == "hunter2\n"
    texts = [path.read_text() for path in (tmp_path / "jobs").iterdir()]
    assert "export B=1" in texts[0]
    assert "hunter2" not in "".join([*texts, done.stdout, done.stderr, shown.stdout, shown.stderr])


def test_a_dry_run_is_a_script_that_does_the_same(launch, programs, tmp_path):
    programs.add("sbatch", 'cp "${@: -1}" "$OUT"; echo 11')
    found = []
    for way, jobs in (("dry", tmp_path / "a b"), ("real", tmp_path / "a b")):
        environment = {**programs.environment, "OUT": str(tmp_path / way)}
        flags = [f"--job_dir={jobs}", "--array=1-2", *(["--dry_run"] if way == "dry" else [])]
        done = launch("slurm", *flags, "--", "train", "--workdir=w;'{index}", env=environment)
        assert done.returncode == 0, done.stderr
        if way == "dry":
            assert not jobs.exists()
            subprocess.run(["/bin/bash", "-c", done.stdout], env=environment, check=True, capture_output=True)
        found.append((tmp_path / way).read_text())
    assert found[0] == found[1]
    assert sorted(path.name for path in jobs.iterdir()) == ["vit_jax-2.sbatch", "vit_jax.sbatch"]


def test_what_sbatch_refuses_is_said_in_one_line(launch, programs, tmp_path):
    programs.add("sbatch", 'echo "sbatch: error: invalid partition" >&2; echo "sbatch: error: again" >&2; exit 1')
    done = launch("slurm", f"--job_dir={tmp_path}", "--", *VERB)
    assert (done.returncode, done.stderr) == (
        2,
        "vit_jax launch: sbatch: error: invalid partition sbatch: error: again\n",
    )


def test_no_slurm_here_is_said(launch, programs, tmp_path):
    done = launch("slurm", f"--job_dir={tmp_path / 'jobs'}", "--", *VERB, env=programs.hide("sbatch"))
    assert done.returncode == 2
    assert done.stderr.startswith("vit_jax launch: sbatch is not on the PATH")
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"nodes": 0}, "nodes"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"gpus_per_node": 8, "ntasks_per_node": 4}, "ntasks_per_node"),
        ({"job_name": "a b"}, "job_name"),
        ({"job_dir": "a%b"}, "job_dir"),
        ({"array": "0-3;x"}, "array"),
        ({"partition": "a\n#SBATCH --x"}, "partition"),
        ({"sbatch": ("--gpus-per-task=1",)}, "sbatch"),
        ({"sbatch": ("exclusive",)}, "sbatch"),
    ],
)
def test_bad_flags_are_refused(flags, field):
    with pytest.raises(BadSetting) as refused:
        slurm.Settings(**flags)
    assert refused.value.field == field


def test_tasks_follow_the_gpus():
    assert [slurm.Settings(**f).tasks for f in ({}, {"gpus_per_node": 8}, {"ntasks_per_node": 3})] == [1, 8, 3]
    assert slurm.Settings(gpus_per_node=8, ntasks_per_node=1).tasks == 1


RECORD = (
    "JobId={id} JobName=vit_jax UserId=u(0) JobState={state} Reason=None ExitCode={code} Restarts=0 "
    "Command=/a b/vit_jax.sbatch WorkDir=/a b StdErr={out} StdIn=/dev/null StdOut={out} Power= "
)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([("COMPLETED", "0:0")], 0),
        ([("FAILED", "42:0")], 42),
        ([("CANCELLED", "0:15")], 143),
        ([("CANCELLED", "0:0")], 1),
        ([("TIMEOUT", "0:0")], 1),
        ([("COMPLETED", "0:0"), ("FAILED", "2:0")], 2),
    ],
)
def test_waiting_shows_the_output_and_gives_the_exit_status(ends, expected, launch, programs, tmp_path):
    """Three looks: pending, running with some output, ended with more."""
    programs.add("sbatch", "echo 11")
    looks = []
    for state, code in (("PENDING", "0:0"), ("RUNNING", "0:0"), (None, None)):
        records = [(state or s, code or c) for s, c in ends]
        lines = [
            RECORD.format(id=11 + i, state=s, code=c, out=tmp_path / f"out {i}") for i, (s, c) in enumerate(records)
        ]
        looks.append("\n".join(lines))
    for n, look in enumerate(looks):
        (tmp_path / f"look{n}").write_text(look)
    programs.add(
        "scontrol",
        f'cd "{tmp_path}"; n=$(cat n 2>/dev/null || echo 0); echo $((n < 2 ? n + 1 : 2)) > n; cat look$n\n'
        'for i in 0 1; do [ $n -ge 1 ] && grep -q "out $i" look$n && echo "line $i $n" >> "out $i"; done; exit 0',
    )
    done = launch("slurm", f"--job_dir={tmp_path / 'jobs'}", "--wait", "--", *VERB)
    assert done.returncode == expected, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"line {i} {n}" for i in range(len(ends)) for n in (1, 2)]


def test_a_controller_that_knows_nothing_is_given_up(programs, monkeypatch):
    programs.add("scontrol", "exit 1")
    monkeypatch.setattr(slurm_follow, "UNKNOWN_SECONDS", 0.1)
    monkeypatch.setattr(slurm_follow, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("PATH", f"{programs.folder}:{os.environ['PATH']}")
    with pytest.raises(Exception, match="scontrol has known nothing of job 11"):
        slurm_follow.follow("11")


def test_the_python_is_ours():
    assert slurm.Settings().python == sys.executable
