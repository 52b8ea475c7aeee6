"""The training loop. It reads top to bottom like the story it is."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax

from vit_jax import parallel
from vit_jax.checkpoint import CHECKPOINTS, EXPORT, TrainingCheckpoints, export_npz
from vit_jax.errors import Stopped
from vit_jax.train.hooks import Evaluate, Hook, MetricsLog, SaveCheckpoint, traces
from vit_jax.train.objectives import supervised
from vit_jax.train.preflight import Plan, preflight
from vit_jax.train.profiling import Profiler
from vit_jax.train.progress import Clock, Reporter
from vit_jax.train.settings import RunSettings
from vit_jax.train.state import State, create_state
from vit_jax.train.step import make_train_step
from vit_jax.train.stopping import StopSignal
from vit_jax.train.workdir import claim
from vit_jax.train.writers import make_writers


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      step: optimizer steps taken.
      evaluation: of the final parameters; empty if nothing is evaluated.
      exported: the weights file and its description.
    """

    step: int
    evaluation: dict[str, float]
    exported: list[Path]


def train(
    settings: RunSettings,
    workdir: str | Path,
    *,
    reporter: Reporter | None = None,
    distributed: bool = False,
    accept_config_change: bool = False,
) -> Result:
    """Trains to the end, going on from the newest checkpoint in `workdir`.

    Writes `config.json`, `metrics.jsonl`, `tensorboard/`, `checkpoints/` and at the end `export/model.npz` there.

    Args:
      settings: the whole run.
      workdir: of this run alone, seen by all processes.
      reporter: tells a person what happens.
      distributed: whether this is one process of a job that `parallel.start` joined.
      accept_config_change: resume although the config is not the one the workdir was started with.

    Raises:
      UserError: something is wrong with the config, the data or the workdir; nothing was compiled.
      Stopped: by SIGTERM or Ctrl-C; the state of the current step is saved.
      Diverged: the loss is no longer finite; good checkpoints are untouched.
    """
    workdir = Path(workdir).absolute()
    reporter = reporter or Reporter(parallel.is_main())
    plan = preflight(settings)
    claim(workdir, settings, accept_config_change)
    parallel.barrier("workdir claimed")
    for line in plan.describe():
        reporter.say(line)
    checkpoints = TrainingCheckpoints(workdir / CHECKPOINTS, settings.checkpoint.keep_last, plan.steps.keep)
    try:
        state, first = _start_state(plan, checkpoints, reporter)
        with StopSignal(distributed) as stop:
            return _run(plan, workdir, checkpoints, state, first, stop, reporter)
    finally:
        checkpoints.close()


def _start_state(plan: Plan, checkpoints: TrainingCheckpoints, reporter: Reporter) -> tuple[State, int]:
    """The newest checkpoint, or a fresh state."""
    latest = checkpoints.latest()
    if latest is None:
        return create_state(plan.model, plan.optimizer, plan.state, plan.settings.seed), 0
    reporter.say(f"resuming from step {latest} of {checkpoints.directory}")
    return checkpoints.restore(plan.state, plan.metadata(latest), latest), latest


def _run(
    plan: Plan,
    workdir: Path,
    checkpoints: TrainingCheckpoints,
    state: State,
    first: int,
    stop: StopSignal,
    reporter: Reporter,
) -> Result:
    settings, total = plan.settings, plan.steps.total
    tensorboard = settings.log.tensorboard and parallel.is_main()
    writers, note = make_writers(workdir, first, tensorboard) if parallel.is_main() else ([], "")
    if note:
        reporter.say(note)
    clock = Clock(settings.train.batch_size)
    metrics = MetricsLog(plan, writers, reporter, clock, checkpoints.latest)
    evaluate = Evaluate(plan, metrics, reporter) if plan.eval_data is not None else None
    hooks: list[Hook] = [SaveCheckpoint(plan, checkpoints), *([evaluate] if evaluate else [])]
    profiler = Profiler(traces(workdir), settings.log.profile_steps)
    try:
        reporter.start(first, total)
        state = _steps(plan, state, first, hooks, metrics, clock, profiler, stop, checkpoints, reporter)
        if evaluate and not evaluate.last:  # resumed after the last step: its record is already there
            evaluate.test(total, state)
    finally:
        reporter.stop()
        profiler.release()
        metrics.close()
    return Result(total, evaluate.last if evaluate else {}, _export(plan, workdir, state))


def _steps(
    plan: Plan,
    state: State,
    first: int,
    hooks: list[Hook],
    metrics: MetricsLog,
    clock: Clock,
    profiler: Profiler,
    stop: StopSignal,
    checkpoints: TrainingCheckpoints,
    reporter: Reporter,
) -> State:
    """Steps `first + 1` to the last."""
    train_step = _train_step(plan)
    batches = _batches(plan, first)
    for step in range(first + 1, plan.steps.total + 1):
        profiler.before_step(step)
        state, step_metrics = train_step(state, next(batches))
        profiler.after_step(step, step_metrics)
        metrics.add(step, step_metrics)
        stopping = stop.requested(step) and step < plan.steps.total
        wanting = [hook for hook in hooks if hook.due(step)]
        if wanting or stopping:
            metrics.flush()  # raises if any step so far was not finite: nothing bad is ever saved
            for hook in wanting:
                hook.run(step, state)
            clock.pause()
        if stopping:
            checkpoints.save(state, plan.metadata(step))
            checkpoints.wait()
            raise Stopped(f"stopped after step {step} of {plan.steps.total}, saved: the same command resumes")
    return state


def _train_step(plan: Plan):
    train = plan.settings.train
    return make_train_step(
        supervised(plan.model, train.loss, train.label_smoothing),
        plan.optimizer,
        plan.schedule,
        plan.state,
        plan.mesh,
        seed=plan.settings.seed,
        micro_batches=train.micro_batches,
        ema_decay=train.ema_decay,
    )


def _batches(plan: Plan, first: int) -> Iterator[dict[str, jax.Array]]:
    settings = plan.settings
    size = settings.train.batch_size
    rows = parallel.host_rows(plan.mesh, size)
    local = plan.train_data.train_batches(settings.seed, size, rows, first, plan.steps.total)
    return parallel.feed(plan.mesh, size, rows, local)


def _export(plan: Plan, workdir: Path, state: State) -> list[Path]:
    """Writes the final weights for use elsewhere."""
    params = parallel.to_host(state.get("ema", state["params"]))
    if not parallel.is_main():
        return []
    return export_npz(params, plan.metadata(plan.steps.total), workdir / EXPORT)
