"""The report of a study: tables, pictures and the sentence they are made for, as Markdown, HTML, CSV and PNG."""

import csv
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax.errors import UserError
from vit_jax.pages import Part, Picture, Section, Table, html_page, markdown_page
from vit_jax.scaling.comparison import (
    AVERAGE,
    Point,
    compute_unit,
    evaluations,
    points_of_paper,
    points_of_runs,
    score,
    title,
)
from vit_jax.scaling.drawing import draw_accuracy, draw_data_size, draw_learning_curves, draw_speed
from vit_jax.scaling.fits import LEVEL, MIN_RUNS, Fit
from vit_jax.scaling.gains import Gain, compute_gains, fit_families, times
from vit_jax.scaling.status import clock_text, days_text, summary
from vit_jax.scaling.study import RunResult, Study, is_number
from vit_jax.scaling.transfers import rows_of

REPORT = "report"
_PANELS = 4  # of the picture against data size, at most


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found out and written.

    Attributes:
      sentences: how many runs are done, and the gains between families.
      files: the report's, the page first.
    """

    sentences: list[str]
    files: list[Path]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The families by one evaluation."""

    evaluation: str
    points: Mapping[str, list[Point]]
    fits: Mapping[str, Fit]
    gains: list[Gain]


def write_report(study: Study, folder: str | Path, *, paper: bool = False) -> Report:
    """Writes `report.html`, `report.md`, `runs.csv` and the pictures.

    A study that still runs is reported as far as it came: unfinished and failed runs are listed, and not compared.

    Args:
      study: from `read_study`.
      folder: created if missing; files of an earlier report are replaced.
      paper: draw the ViT paper's table 6 beside the runs, for evaluations that it has.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table = _write_csv(study, folder / "runs.csv")
    except OSError as error:
        raise UserError(f"report folder {str(folder)!r} cannot be written: {error.strerror}") from None
    rows = rows_of(study)
    names = evaluations(rows)
    compared = [c for c in (_compare(rows, name) for name in names) if c.points]
    compared.sort(key=lambda c: c.evaluation != AVERAGE)  # the summary of all others first
    sentences = [gain.sentence(_said(c.evaluation)) for c in compared[:1] for gain in c.gains]
    if not sentences and compared and len(compared[0].points) > 1:
        sentences.append("No two families reach a common accuracy, so none is said to need less compute.")
    if paper and not any(points_of_paper(c.evaluation) for c in compared):
        sentences.append("The ViT paper's table 6 has none of these evaluations, so none of its points are drawn.")
    lead = [summary(study), *sentences]
    sections = [
        *[Section(f"Compute and {_said(c.evaluation)}", [_accuracy_picture(c, folder, paper)]) for c in compared[:1]],
        Section("Runs", [_runs_table(rows, names)]),
        *_problems(study),
        *_gain_section(compared),
        *_curve_sections(rows, folder),
        *_data_size_sections(rows, folder),
        *_speed_sections(rows, folder),
    ]
    if compared[1:]:
        sections.append(Section("Other evaluations", [_accuracy_picture(c, folder, paper) for c in compared[1:]]))
    title_ = f"Scaling study: {study.config}"
    page, markdown = folder / "report.html", folder / "report.md"
    page.write_text(html_page(title_, sections, lead), encoding="utf-8")
    markdown.write_text(markdown_page(title_, sections, lead), encoding="utf-8")
    pictures = [folder / part.file for section in sections for part in section.parts if isinstance(part, Picture)]
    return Report(lead, [page, markdown, table, *pictures])


def _compare(rows: Sequence[RunResult], evaluation: str) -> Comparison:
    points = points_of_runs(rows, evaluation)
    runs = _as_runs(points)
    fits = fit_families(runs)
    return Comparison(evaluation, points, fits, compute_gains(runs, fits))


def _as_runs(points: Mapping[str, list[Point]]) -> dict[str, list[tuple[float, float]]]:
    return {family: [(point.compute, point.accuracy) for point in found] for family, found in points.items()}


def _said(evaluation: str) -> str:
    """What a sentence calls an evaluation."""
    special = {AVERAGE: "average accuracy on five data sets", "eval": "accuracy"}
    return special.get(evaluation, f"{title(evaluation)} accuracy")


def _accuracy_picture(compared: Comparison, folder: Path, paper: bool) -> Picture:
    name, said = compared.evaluation, _said(compared.evaluation)
    reference = points_of_paper(name) if paper else {}
    path = draw_accuracy(
        compared.points,
        compared.fits,
        folder / f"accuracy_{re.sub(r'[^A-Za-z0-9]+', '_', name)}.png",
        f"{said} (%)",
        reference,
        fit_families(_as_runs(reference)),
    )
    alt = f"{said[:1].upper()}{said[1:]} against training compute"
    caption = (
        f"{alt}. Each point is a model and a length of training: the mean over seeds, of the best settings tried. "
    )
    if compared.fits:
        caption += f"Curves are saturating power laws, with pointwise {LEVEL:.0%} bands. "
    without = [family for family in compared.points if family not in compared.fits]
    if without:
        caption += f"No curve for {' and '.join(without)}: that takes {MIN_RUNS} points, and accuracy that rises. "
    if reference:
        caption += "Hollow: the ViT paper's table 6, pre-trained on JFT-300M."
    return Picture.read(path, alt, caption.strip())


def _runs_table(runs: Sequence[RunResult], names: Sequence[str]) -> Table:
    """Like the paper's table 6, a row a run, with its transfers."""
    unit, size = compute_unit(run.cost.exaflops for run in runs)
    timed = any(run.seconds is not None for run in runs)
    header = ["model", "epochs", *map(title, names), "parameters", unit]
    header += [*(["device-days", "time"] if timed else []), "run"]
    rows = []
    for run in runs:
        cost = run.cost
        scores = [_number(score(run, name), ".2f") for name in names]
        if run.status != "done":  # what it has is no result yet
            scores = [run.status, *[""] * (len(names) - 1)] if names else []
        row = [cost.model, f"{cost.epochs:.3g}", *scores, f"{cost.parameters:,}", f"{cost.exaflops / size:,.4g}"]
        row += [days_text(run.device_days), clock_text(run.seconds)] if timed else []
        rows.append([*row, cost.name])
    return Table(header, rows)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _problems(study: Study) -> list[Section]:
    rows = [
        [run.cost.name, run.status, f"{run.step:,} of {run.cost.steps:,}", run.error]
        for run in study.runs
        if run.status != "done"
    ]
    return [Section("Not done", [Table(["run", "status", "step", "error"], rows)])] * bool(rows)


def _gain_section(compared: Iterable[Comparison]) -> list[Section]:
    """Every fitted coefficient and every comparison, as tables."""
    fits, gains = [], []
    for c in compared:
        for family, fit in c.fits.items():
            found = fit.intervals()
            numbers = [_with(value, found[name]) for value, name in zip(fit.coefficients[::2], found, strict=True)]
            fits.append([title(c.evaluation), family, str(fit.runs), *numbers, f"{fit.noise:.2g}", f"{fit.r2:.3f}"])
        for gain in c.gains:
            where = "{:.1f} to {:.1f}".format(*gain.accuracies)
            over = f"{times(gain.lowest)} to {times(gain.highest)}"
            gains.append([title(c.evaluation), gain.frugal, gain.costly, times(gain.typical), gain.sure, over, where])
    blocks: list[Part] = []
    if gains:
        blocks.append(
            "Compute that the second family needs over that of the first at equal accuracy: the median over all "
            "accuracies that both reach within the compute of their runs, with lowest and highest."
        )
        columns = [
            "evaluation",
            "family",
            "than",
            "times less",
            f"{LEVEL:.0%} interval",
            "lowest, highest",
            "range (%)",
        ]
        blocks.append(Table(columns, gains))
    if fits:
        blocks.append(
            "Fitted: error = floor + b x compute^-exponent, with the error in percent. Noise is the standard deviation "
            f"of the runs around the curve, in percentage points. Intervals ({LEVEL:.0%}) are from a bootstrap that "
            "counts the noise itself as uncertain."
        )
        columns = ["evaluation", "family", "points", "floor (%)", "exponent", "noise", "R2"]
        blocks.append(Table(columns, fits))
    return [Section("Compute at equal accuracy", blocks)] if blocks else []


def _with(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def _curve_sections(rows: Sequence[RunResult], folder: Path) -> list[Section]:
    """Not of failed runs: a loss that explodes leaves no room for the others."""
    trained = [run for run in rows if run.status != "failed"]
    runs = [run for run in trained if any(is_number(r.get("loss")) and r["loss"] > 0 for r in run.records)]
    if not runs:
        return []
    alt = "Training loss and accuracy on the evaluation split, against the compute spent so far"
    path = draw_learning_curves(runs, folder / "learning_curves.png")
    return [Section("Learning curves", [Picture.read(path, alt, f"{alt}; larger is darker.")])]


def _data_size_sections(rows: Sequence[RunResult], folder: Path) -> list[Section]:
    """Accuracy against data size, where models were trained on several sizes: few-shot results if there are any."""
    done = [run for run in rows if run.status == "done"]
    found: dict[str, dict[tuple[str, str], dict[int, float]]] = {}
    for run in done:
        few = {f"{title(name)}, {shots}-shot (%)": value for (name, shots), value in sorted(run.few_shot.items())}
        plain = {f"{_said(name)} (%)": value for name, value in run.scores.items()}
        for what, value in (few or plain).items():
            line = found.setdefault(what, {}).setdefault((run.cost.family, run.cost.model), {})
            line[run.cost.examples] = max(value, line.get(run.cost.examples, 0.0))
    lines = {
        what: {model: list(line.items()) for model, line in models.items()}
        for what, models in found.items()
        if len({size for line in models.values() for size in line}) > 1
    }
    if not lines:
        return []
    lines = dict(list(lines.items())[:_PANELS])
    alt = "Accuracy against the number of training images"
    path = draw_data_size(lines, folder / "data_size.png")
    return [Section("Size of the data", [Picture.read(path, alt, "The best run of each model on so many images.")])]


# What an evaluator of the kind `speed` records: (title, how it is written). The paper's figure 12 draws two of them.
_SPEED = {
    "images_per_second": ("images a second", ",.1f"),
    "batch": ("in batches of", ",.0f"),
    "largest": ("largest batch", ",.0f"),
}


def _speed_sections(rows: Sequence[RunResult], folder: Path) -> list[Section]:
    """What inference costs, where it was measured."""
    measured = [run for run in rows if run.status == "done" and run.speed]
    if not measured:
        return []
    lines: dict[str, dict[tuple[str, str], list[tuple[int, float]]]] = {}
    table = []
    for run in measured:
        cost, numbers = run.cost, {what: value for (_, what), value in run.speed.items()}
        for what in ("images_per_second", "largest"):
            if what in numbers:
                models = lines.setdefault(_SPEED[what][0], {})
                models.setdefault((cost.family, cost.model), []).append((cost.image_size[0], numbers[what]))
        cells = [_number(numbers.get(what), form) for what, (_, form) in _SPEED.items()]
        table.append([cost.model, "x".join(map(str, cost.image_size)), f"{cost.parameters:,}", *cells])
    alt = "Speed of the forward pass against the side of the images"
    picture = Picture.read(draw_speed(lines, folder / "speed.png"), alt, f"{alt}, over all devices.")
    header = ["model", "pixels", "parameters", *(title for title, _ in _SPEED.values())]
    return [Section("Cost of inference", [picture, Table(header, table)])]


def _write_csv(study: Study, path: Path) -> Path:
    """Everything a run is known by, a row a run."""
    rows = [flat_row(run) for run in study.runs]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def flat_row(run: RunResult) -> dict[str, Any]:
    """A run as one row of plain values: cost, status, `<evaluation>` in percent, `<evaluation>/<n>_shot`, settings."""
    row = {**dataclasses.asdict(run.cost), "image_size": "x".join(map(str, run.cost.image_size))}
    row |= {"status": run.status, "step": run.step, "error": run.error}
    row |= {"seconds": run.seconds, "device_days": run.device_days}
    row |= {name: score(run, name) for name in evaluations([run])}
    row |= {f"{name}/{shots}_shot": value for (name, shots), value in run.few_shot.items()}
    row |= {f"{name}/{what}": value for (name, what), value in run.speed.items()}
    return row | {key: v if isinstance(v, str) else json.dumps(v) for key, v in run.overrides.items()}
