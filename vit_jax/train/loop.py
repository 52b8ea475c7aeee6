"""The training loop. It reads top to bottom like the story it is."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from vit_jax import parallel
from vit_jax.checkpoint import CHECKPOINTS, EXPORT, TrainingCheckpoints, export_npz
from vit_jax.errors import Alone, Stopped, Unsaved, UserError
from vit_jax.train.compiling import Compilations, compilations, compile_step
from vit_jax.train.goodput import CHECKPOINT, GOODPUT_FILE, INPUT, OTHER, START, Goodput, GoodputLog, StepWatch
from vit_jax.train.hang import HangWatch
from vit_jax.train.hooks import PICTURES, Evaluate, Hook, Inspect, SaveCheckpoint
from vit_jax.train.metrics import MetricsLog
from vit_jax.train.preflight import Plan, preflight
from vit_jax.train.profiling import Profiler, traces
from vit_jax.train.progress import Clock, Reporter
from vit_jax.train.settings import RunSettings
from vit_jax.train.state import State, create_state, state_from
from vit_jax.train.stopping import StopSignal
from vit_jax.train.tolerance import Tolerance
from vit_jax.train.utilisation import utilisation
from vit_jax.train.workdir import check_same_run, check_shared, claim, release
from vit_jax.train.writers import METRICS_FILE, has_evaluation, make_writers


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      step: optimizer steps taken.
      evaluations: of the final parameters, by the evaluator's name; `eval` is on the run's own data.
      exported: the weights file and its description; empty on processes other than the main one.
    """

    step: int
    evaluations: dict[str, dict[str, float]]
    exported: list[Path]

    @property
    def evaluation(self) -> dict[str, float]:
        """Of the final parameters on the run's own data; empty if it has no evaluation split."""
        return self.evaluations.get("eval", {})


@dataclasses.dataclass(frozen=True)
class Run:
    """What the loop works with."""

    plan: Plan
    workdir: Path
    first: int  # the step that the state it starts from has taken
    save: SaveCheckpoint
    evaluate: list[Evaluate]
    inspect: list[Inspect]  # one, or none
    metrics: MetricsLog
    clock: Clock
    goodput: Goodput
    account: GoodputLog
    watch: StepWatch
    compilations: Compilations
    profiler: Profiler
    stop: StopSignal
    tolerance: Tolerance
    reporter: Reporter


def train(
    settings: RunSettings,
    workdir: str | Path,
    *,
    reporter: Reporter | None = None,
    distributed: bool = False,
    accept_config_change: bool = False,
    began: float | None = None,
) -> Result:
    """Trains to the end, going on from the newest checkpoint in `workdir`.

    Writes `config.json`, `metrics.jsonl`, `goodput.jsonl`, `tensorboard/`, `checkpoints/`, `inspect/` and at the end
    `export/model.npz` there. Call it from the main thread: it listens to signals.

    Args:
      settings: the whole run.
      workdir: of this run alone, a local or mounted folder that all processes see.
      reporter: tells a person what happens.
      distributed: whether this is one process of a job that `parallel.start` joined.
      accept_config_change: resume although the config is not the one the workdir was started with.
      began: when this attempt began (seconds since 1970), for the account of where time goes; by default now.

    Raises:
      UserError: something is wrong with the config, the data or the workdir; nothing was compiled.
      Stopped: by SIGTERM or Ctrl-C; the state of the current step is saved.
      Diverged: the loss is no longer finite; good checkpoints are untouched.
      Unsaved: something could not be written; good checkpoints are untouched.
    """
    reporter, goodput = reporter or Reporter(parallel.is_main()), Goodput(began)
    with parallel.together():
        plan = preflight(settings)
        folder = claim(workdir, settings, accept_config_change)
    with parallel.together():
        check_shared(folder, settings)
    for line in plan.describe():
        reporter.say(line)
    hangs = HangWatch(goodput, settings.log.hang_timeout, folder / "hang", settings.log.on_hang == "exit")
    checkpoints = TrainingCheckpoints(folder / CHECKPOINTS, settings.checkpoint.keep_last, plan.steps.keep)
    try:
        with compilations(goodput) as heard, hangs, checkpoints, StopSignal(distributed) as stop:
            state, first = _start_state(plan, checkpoints, reporter, accept_config_change)
            return _train(_prepare(plan, folder, first, checkpoints, goodput, heard, stop, reporter), state)
    except Exception:
        release(folder)
        raise


def _start_state(
    plan: Plan, checkpoints: TrainingCheckpoints, reporter: Reporter, accept_change: bool
) -> tuple[State, int]:
    """The newest checkpoint, or a fresh state."""
    latest = checkpoints.latest()
    if latest is None:
        return _first_state(plan, reporter), 0
    with parallel.together():
        if not accept_change:
            check_same_run(
                checkpoints.description(latest),
                plan.metadata(latest),
                f"checkpoint {checkpoints.directory / str(latest)}",
            )
    reporter.say(f"resuming from step {latest} of {checkpoints.directory}")
    return checkpoints.restore(plan.state, plan.metadata(latest), latest), latest


def _first_state(plan: Plan, reporter: Reporter) -> State:
    """Fresh values, or those of `config.init`."""
    with parallel.together():
        initial = plan.initial()
    if initial is None:
        return create_state(plan.model, plan.optimizer, plan.state, plan.settings.seed)
    params, report = initial
    for line in (f"init      {plan.settings.init.checkpoint}", *(f"          {line}" for line in report.lines())):
        reporter.say(line)
    return state_from(params, plan.optimizer, plan.state)


def _prepare(
    plan: Plan,
    workdir: Path,
    first: int,
    checkpoints: TrainingCheckpoints,
    goodput: Goodput,
    heard: Compilations,
    stop: StopSignal,
    reporter: Reporter,
) -> Run:
    """Opens the writers and sets up everything that happens around the steps."""
    main, settings = parallel.is_main(), plan.settings
    writers, note = make_writers(workdir, first, settings.log.tensorboard) if main else ([], "")
    if note:
        reporter.say(note)
    clock = Clock(settings.train.batch_size)
    tolerance = Tolerance(settings.checkpoint.on_error == "stop", reporter)
    save = SaveCheckpoint(plan, checkpoints, tolerance)
    account = GoodputLog(workdir / GOODPUT_FILE if main else None, goodput, first)
    metrics = MetricsLog(plan.steps.log, plan.steps.total, writers, reporter, clock, save.newest, tolerance, account)
    return Run(
        plan=plan,
        workdir=workdir,
        first=first,
        save=save,
        evaluate=[
            Evaluate(name, about, plan.steps.total, metrics, reporter) for name, about in plan.evaluations.items()
        ],
        inspect=[Inspect(plan.inspection, plan.steps.total, workdir / PICTURES, reporter)] if plan.inspection else [],
        metrics=metrics,
        clock=clock,
        goodput=goodput,
        account=account,
        watch=StepWatch(goodput),
        compilations=heard,
        profiler=Profiler(traces(workdir, parallel.process_index()), settings.log.profile_steps),
        stop=stop,
        tolerance=tolerance,
        reporter=reporter,
    )


def _train(run: Run, state: State) -> Result:
    total = run.plan.steps.total
    try:
        run.reporter.start(run.first, total)
        _make_up_for_what_was_missed(run, state)
        state = _steps(run, state)
        run.save.finish()
        result = Result(total, {test.name: test.last for test in run.evaluate}, export(run.plan, state, run.workdir))
        _settle(run, total)
        return result
    finally:
        run.reporter.stop()
        run.profiler.release()
        run.watch.close()
        run.account.close()
        run.metrics.close()


def _settle(run: Run, step: int) -> None:
    """Says and records where the time went."""
    run.reporter.say(run.account.describe())
    if run.first < step:
        run.metrics.write(step, run.account.shares())
    with run.tolerance.writing(GOODPUT_FILE):
        run.account.write(step, done=step == run.plan.steps.total)


def _make_up_for_what_was_missed(run: Run, state: State) -> None:
    """A run that ended between a save and what else was due at the same step makes up for it."""
    for test in run.evaluate if run.first else ():
        if not test.due(run.first):
            continue
        done = parallel.is_main() and has_evaluation(run.workdir / METRICS_FILE, test.name, run.first)
        if not parallel.from_main(done):
            test.run(run.first, state)
        elif run.first == run.plan.steps.total:
            test.test(run.first, state)
    for album in run.inspect if run.first else ():
        if parallel.from_main(album.missed(run.first)):
            album.run(run.first, state)


def _measure(run: Run, program: Any) -> None:
    used = utilisation(program, run.plan.model, run.plan.settings.train.batch_size, run.plan.mesh)
    run.metrics.measure(used)
    if used:
        run.reporter.say(used.describe())


def _steps(run: Run, state: State) -> State:
    """Steps `first + 1` to the last."""
    total, during = run.plan.steps.total, run.goodput.during
    train_step, batches, program = run.plan.train_step(), _batches(run.plan, run.first), None
    hooks: list[Hook] = [run.save, *run.evaluate, *run.inspect]
    for step in range(run.first + 1, total + 1):
        with during(INPUT if program else START):
            batch = _next_batch(run, batches, state, step)
        if program is None:
            program, about = compile_step(train_step, (state, batch), run.goodput, run.compilations)
            run.reporter.say(about)
            run.goodput.turn_to(OTHER)
        run.profiler.before_step(step)
        run.goodput.dispatched(step)
        state, metrics = program(state, batch)
        run.watch.add(step, metrics)
        run.profiler.after_step(step, metrics)
        run.metrics.add(step, metrics)
        run.save.check()
        if step == run.first + 1:  # while the devices are busy with it
            _measure(run, program)
        stopping = run.stop.requested(step) and step < total
        due = [hook for hook in hooks if hook.due(step)]
        if stopping or due:
            run.metrics.flush()  # raises if any step so far was not finite: nothing bad is ever saved
        if stopping:  # whoever stops us may not wait for an evaluation: resuming makes up for it
            _stop(run, step, state)
        for hook in due:
            with during(hook.activity):
                hook.run(step, state)
            run.clock.pause()
        if due:
            with run.tolerance.writing(GOODPUT_FILE):
                run.account.write(step)
    return state


def _stop(run: Run, step: int, state: State) -> None:
    """Ends the run after `step`, with its state saved."""
    with run.goodput.during(CHECKPOINT):
        saved = run.save.now(step, state)
    _settle(run, step)
    total = run.plan.steps.total
    if saved == step:
        raise Stopped(f"stopped after step {step} of {total}, saved: the same command resumes")
    newest = "the beginning" if saved is None else f"step {saved}"
    raise Stopped(f"stopped after step {step} of {total}, not saved: the same command resumes from {newest}")


def _next_batch(run: Run, batches: Iterator[dict[str, jax.Array]], state: State, step: int) -> dict[str, jax.Array]:
    """The batch of `step`. If the data cannot be read, the steps so far are not lost."""
    try:
        return next(batches)
    except UserError as error:
        if parallel.process_count() > 1:
            raise Alone(str(error)) from error
        run.metrics.flush()
        if step - 1 > run.first:
            run.save.now(step - 1, state)
        raise


def _batches(plan: Plan, first: int) -> Iterator[dict[str, jax.Array]]:
    settings = plan.settings
    size = settings.train.batch_size
    rows = parallel.host_rows(plan.mesh, size)
    local = plan.train_data.train_batches(settings.seed, size, rows, first, plan.steps.total)
    return parallel.feed(plan.mesh, size, rows, local)


def export(plan: Plan, state: State, workdir: Path) -> list[Path]:
    """Writes the final weights for use elsewhere.

    Raises:
      Unsaved: there is no room, for example.
    """
    params = parallel.to_host(state.get("ema", state["params"]))
    if not parallel.is_main():
        return []
    try:
        return export_npz(params, plan.metadata(plan.steps.total), workdir / EXPORT)
    except UserError as error:
        raise Unsaved(f"{error}; make room and run the same command: it goes on from the newest checkpoint") from error
