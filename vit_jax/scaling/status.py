"""What has become of a sweep, in a sentence and as a table, at any time."""

from vit_jax.pages import Table
from vit_jax.scaling.comparison import evaluations, score, title
from vit_jax.scaling.study import Study

_UNDONE = ("running", "failed", "unfinished", "waiting")


def summary(study: Study) -> str:
    """`3 of 18 runs are done, 1 running, 14 waiting; 1.2 device-days so far.`"""
    counts = {status: sum(run.status == status for run in study.runs) for status in _UNDONE}
    done = sum(run.status == "done" for run in study.runs)
    rest = "".join(f", {count} {status}" for status, count in counts.items() if count)
    days = sum(run.device_days for run in study.runs if run.device_days)
    spent = f"; {days_text(days)} device-days so far" if days else ""
    return f"{done} of {len(study.runs)} runs are done{rest}{spent}."


def status_table(study: Study) -> Table:
    """A row a run: how far it came, and its newest accuracies in percent."""
    names = evaluations(study.runs)
    errors = any(run.error for run in study.runs)
    rows = []
    for run in study.runs:
        found = [score(run, name) for name in names]
        row = [run.cost.name, run.status, f"{run.step:,} of {run.cost.steps:,}"]
        row += ["" if value is None else f"{value:.2f}" for value in found] + [clock_text(run.seconds)]
        rows.append([*row, run.error] if errors else row)
    return Table(["run", "status", "step", *map(title, names), "time", *(["error"] if errors else [])], rows)


def days_text(value: float | None) -> str:
    """Device-days as people write them; empty for None."""
    return "" if value is None else format(value, ",.0f" if value >= 100 else ".3g")


def clock_text(seconds: float | None) -> str:
    """`1:02:03`; empty for None."""
    if seconds is None:
        return ""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
