"""Runs a verb as a SLURM job: writes one batch script, submits it, and lets it start itself again.

    vit_jax launch slurm --nodes=2 --gpus_per_node=8 --time=12:00:00 -- train --config=... --workdir=/shared/w
    vit_jax launch slurm --array=1-4 -- train --config=... --config.schedule.learning_rate=1e-{index} --workdir=w{index}

`srun` starts one process per task; with GPUs that is one per GPU. Two minutes before the time limit, and when the job
is preempted, the processes get SIGTERM, save and end with 42; the script then puts the job back into the queue, where
the same command goes on, up to --max_restarts times. The workdir must lie on a disk that all nodes share.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vit_jax.errors import UserError
from vit_jax.launch import restart, shell, slurm_follow
from vit_jax.launch.flags import Shared, check, flag

SAVE_SECONDS = 120  # before the time limit; SLURM may give up to a minute more
_JOB_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_ARRAY = re.compile(r"[0-9,:-]+(%[1-9][0-9]*)?")
_WORD = re.compile(r"[^\s\"'\\]*")
_PATH_TROUBLE = re.compile(r"[\"'\\%\n\r\t]")


@dataclasses.dataclass(frozen=True)
class Settings(Shared):
    """Flags of `vit_jax launch slurm`."""

    nodes: int = flag(1, "nodes of the job", "N")
    ntasks_per_node: int = flag(0, "processes on each node (default: one per GPU, or one)", "N")
    gpus_per_node: int = flag(0, "GPUs of each node; every process sees all of its node and takes its own", "N")
    cpus_per_task: int = flag(0, "CPU cores of each process (default: the cluster's)", "N")
    mem: str = flag("", "memory of each node, such as 200G, or 0 for all of it")
    time: str = flag("", "time limit of one start, such as 12:00:00; the job goes on after it")
    partition: str = flag("", "partition")
    account: str = flag("", "account that is charged")
    qos: str = flag("", "quality of service")
    array: str = flag("", "run the verb once for each index, such as 0-3 or 0-9%2; {index} in its flags is the index")
    job_name: str = flag("vit_jax", "name of the job")
    job_dir: str = flag("slurm", "folder for the script and the output; all nodes must see it", "FOLDER")
    python: str = flag(sys.executable, "the Python of the nodes that has vit_jax")
    sbatch: tuple[str, ...] = flag((), "any other option of sbatch, repeatable: --sbatch=--exclusive", "OPTION")
    wait: bool = flag(False, "show the output until the job has ended, and end with its exit status")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.nodes >= 1, "nodes", self.nodes, "must be at least 1")
        for name in ("ntasks_per_node", "gpus_per_node", "cpus_per_task"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "must be at least 0")
        fits = not self.gpus_per_node or self.tasks in (1, self.gpus_per_node)
        fix = f"must be 1 or the number of GPUs, {self.gpus_per_node}: a process takes one GPU, or all"
        check(fits, "ntasks_per_node", self.ntasks_per_node, fix)
        check(_JOB_NAME.fullmatch(self.job_name), "job_name", self.job_name, "use letters, digits, '_', '.' and '-'")
        for name in ("mem", "time", "partition", "account", "qos"):
            check(_WORD.fullmatch(getattr(self, name)), name, getattr(self, name), "must be one word without quotes")
        check(not self.array or _ARRAY.fullmatch(self.array), "array", self.array, "write it like 0-3, 1,5,7 or 0-9%2")
        check(not _PATH_TROUBLE.search(self.job_dir), "job_dir", self.job_dir, "sbatch cannot write to such a name")
        for option in self.sbatch:
            check(option.startswith("-") and "\n" not in option, "sbatch", option, "write --sbatch=--option=value")
            check("gpus-per-task" not in option, "sbatch", option, "JAX finds no GPU then; use --gpus_per_node")

    @property
    def tasks(self) -> int:
        """Processes on each node."""
        return self.ntasks_per_node or self.gpus_per_node or 1


def launch(settings: Settings, verb: Sequence[str]) -> int:
    """Submits `vit_jax <verb>`; returns 0, or with --wait the exit status of the job.

    Raises:
      UserError: the script cannot be written, or sbatch refuses it.
    """
    variables = shell.environment(settings.env)
    folder = Path(settings.job_dir).absolute()
    script = _free_name(folder, settings.job_name)
    text = batch_script(settings, verb, variables, folder)
    command = ["sbatch", "--parsable", str(script)]
    if settings.dry_run:
        print(f"mkdir -p {shell.quote([str(folder)])}", shell.file(str(script), text), sep="\n")
        print(*_credentials_in_front(variables), shell.quote(command))
        return 0
    slurm_follow.need("sbatch")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        script.write_text(text, errors="surrogateescape")
    except OSError as error:
        raise UserError(f"--job_dir = {settings.job_dir!r}: {error.strerror}") from None
    job = slurm_follow.submit(command, {**os.environ, **variables})
    restart.say(f"job {job} submitted with {script}")
    if settings.wait:
        return slurm_follow.follow(job)
    output = folder / f"{settings.job_name}-{job}{'_*' if settings.array else ''}.out"
    restart.say(f"its output: tail -F {output}; its state: squeue -j {job}; its end: scancel {job}")
    return 0


def _free_name(folder: Path, job_name: str) -> Path:
    """A script that was submitted stays what it was."""
    names = (folder / f"{job_name}{end}.sbatch" for end in ("", *(f"-{i}" for i in range(2, 10**6))))
    return next(name for name in names if not name.exists())


def _credentials_in_front(variables: Mapping[str, str]) -> list[str]:
    """Credentials reach the job through the environment of sbatch, so that no script holds them."""
    return shell.assignments({name: value for name, value in variables.items() if shell.is_credential(name)})


def batch_script(settings: Settings, verb: Sequence[str], variables: Mapping[str, str], folder: Path) -> str:
    """The text of the script.

    Args:
      settings: the flags.
      verb: what follows vit_jax.
      variables: of the processes; credentials are left out.
      folder: absolute path for the output.
    """
    index = "SLURM_ARRAY_TASK_ID" if settings.array else ""
    command = shell.quote([settings.python, "-m", "vit_jax", *verb], index)
    plain = {name: value for name, value in variables.items() if not shell.is_credential(name)}
    exports = "".join(f"export {text}\n" for text in shell.assignments(plain))
    header = "".join(f"#SBATCH {option}\n" for option in _options(settings, folder))
    return _SCRIPT.format(
        header=header,
        folder=shell.quote([str(folder)]),
        name=settings.job_name,
        max_restarts=settings.max_restarts,
        exports=exports,
        # srun no longer takes it from the job by itself.
        cores=f" --cpus-per-task={settings.cpus_per_task}" if settings.cpus_per_task else "",
        command=command,
    )


def _options(settings: Settings, folder: Path) -> list[str]:
    job = "%A_%a" if settings.array else "%j"
    options = {
        "job-name": settings.job_name,
        "output": f'"{folder}/{settings.job_name}-{job}.out"',
        "open-mode": "append",
        "nodes": settings.nodes,
        "ntasks-per-node": settings.tasks,
        "gpus-per-node": settings.gpus_per_node or "",
        "cpus-per-task": settings.cpus_per_task or "",
        "mem": settings.mem,
        "time": settings.time,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "array": settings.array,
        "signal": f"B:TERM@{SAVE_SECONDS}",
    }
    theirs = {option.lstrip("-").partition("=")[0] for option in settings.sbatch}
    given = [f"--{name}={value}" for name, value in options.items() if value != "" and name not in theirs]
    return [*given, "--requeue" if settings.max_restarts else "--no-requeue", *settings.sbatch]


# A task's own exit status is kept, because srun reports the largest: of an error (1) and of peers that abort because of
# it (134) it would be the second. Whoever fails first writes the file; that needs no clocks. A task that failed waits a
# while for the others, then srun kills them. 42 is hidden from srun: tasks may still be saving.
_SCRIPT = r"""#!/bin/bash
{header}
set -u
job=$SLURM_JOB_ID
# The number of the last job of an array is that of the whole array, too.
if [ -n "${{SLURM_ARRAY_TASK_ID:-}}" ]; then job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID; fi
restarts=${{SLURM_RESTART_COUNT:-0}}
max_restarts={max_restarts}
export VIT_JAX_ENDED={folder}/.{name}-$job-$restarts
{exports}
task=$(cat <<'TASK'
trap : TERM
"$@"
status=$?
echo "$SLURM_PROCID" >> "$VIT_JAX_ENDED.tasks"
if [ $status = 0 ]; then exit 0; fi
(set -o noclobber; echo $status > "$VIT_JAX_ENDED.first") 2>/dev/null
if [ $status = 42 ]; then exit 0; fi
echo "vit_jax launch: task $SLURM_PROCID on $SLURMD_NODENAME ended with $status; after 30 s the others are killed"
for second in {{1..30}}; do
  if [ "$(wc -l < "$VIT_JAX_ENDED.tasks")" -ge "$SLURM_NTASKS" ]; then break; fi
  sleep 1
done
exit $status
TASK
)

# SIGTERM comes here before the time limit; srun itself would answer it by killing the tasks.
trap 'scancel --signal=TERM "$job"' TERM
rm -f "$VIT_JAX_ENDED".*
srun --kill-on-bad-exit=1 --label{cores} bash -c "$task" task {command} &
step=$!
while :; do
  wait $step
  status=$?
  kill -0 $step 2>/dev/null || break
done
if [ -s "$VIT_JAX_ENDED.first" ]; then status=$(cat "$VIT_JAX_ENDED.first"); fi
rm -f "$VIT_JAX_ENDED".*
echo "vit_jax launch: exit status $status after start $((restarts + 1)) of at most $((max_restarts + 1))"

# Requeue a job that may go on, but not one that was cancelled or that SLURM puts back itself.
if [ "$status" = 42 ] || [ "$status" -ge 128 ]; then
  state=$(squeue --noheader --jobs="$job" --format=%T)
  if [ "$restarts" -lt "$max_restarts" ] && [ "$state" = RUNNING ]; then
    trap - TERM  # requeueing ends this script
    scontrol requeue "$job" && sleep 60
  fi
fi
exit "$status"
"""
