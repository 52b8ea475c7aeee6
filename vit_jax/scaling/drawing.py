"""The pictures of a study: accuracy against compute, learning curves, accuracy against the size of the data."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_jax.scaling.comparison import FAMILIES, Point, compute_unit
from vit_jax.scaling.fits import LEVEL, Fit
from vit_jax.scaling.gains import pareto_front
from vit_jax.scaling.labels import Label, place_labels
from vit_jax.scaling.study import RunResult, is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers (Okabe and Ito, "Color Universal Design"), and in print by marker.
_STYLES = {"ViT": ("#0072B2", "o"), "hybrid": ("#D55E00", "s"), "ResNet": ("#009E73", "^")}
_GREY = "#666666"
_FONT: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_DPI = 160
_DRAWN = 300  # points of a learning curve, at most
Families = Mapping[str, Sequence[Point]]


def draw_accuracy(
    families: Families,
    fits: Mapping[str, Fit],
    path: Path,
    what: str,
    paper: Families | None = None,
    paper_fits: Mapping[str, Fit] | None = None,
) -> Path:
    """Draws accuracy against training compute as in the paper's figure 5: runs, curves with bands, Pareto front.

    Args:
      families: runs of each family, some at least.
      fits: their curves, where there are any.
      path: the PNG to write.
      what: is on the y axis.
      paper: reference points, drawn hollow.
      paper_fits: their curves, drawn dotted.
    """
    paper, paper_fits = paper or {}, paper_fits or {}
    points = [point for family in (*families.values(), *paper.values()) for point in family]
    unit, size = compute_unit(point.compute for point in points)
    with _figure(path, (7.0, 4.8)) as figure:
        axes = figure.subplots()
        for family, found in paper.items():
            _draw_reference(axes, family, found, paper_fits.get(family), size)
        _draw_front(axes, [p for found in families.values() for p in found], size)
        for family, found in families.items():
            _draw_family(axes, family, found, fits.get(family), size)
        _compute_axis(axes, [point.compute / size for point in points], unit)
        accuracies = [point.accuracy for point in points]
        room = 0.06 * (max(accuracies) - min(accuracies) or 1.0)
        axes.set(ylabel=what, ylim=(min(accuracies) - 2 * room, max(accuracies) + room))
        _legend(figure, families, _entries_of_curves(bool(fits), bool(paper)))
        labels = [
            Label(p.compute / size, p.accuracy, p.label, _color(f)) for f, found in families.items() for p in found
        ]
        place_labels(axes, labels, [(p.compute / size, p.accuracy) for found in paper.values() for p in found])
    return path


def _draw_family(axes: "Axes", family: str, points: Sequence[Point], fit: Fit | None, size: float) -> None:
    color, marker = _style(family)
    if fit:
        compute = np.geomspace(*fit.compute, 200)
        low, high = fit.band(compute)
        axes.fill_between(compute / size, 100 - high, 100 - low, color=color, alpha=0.13, linewidth=0, zorder=1)
        axes.plot(compute / size, 100 - fit.best.error(compute)[0], color=color, linewidth=1.5, zorder=3)
    x, y = [p.compute / size for p in points], [p.accuracy for p in points]
    axes.scatter(x, y, s=34, color=color, marker=marker, edgecolors="white", linewidths=0.6, zorder=4)


def _draw_reference(axes: "Axes", family: str, points: Sequence[Point], fit: Fit | None, size: float) -> None:
    color, marker = _style(family)
    x, y = [p.compute / size for p in points], [p.accuracy for p in points]
    axes.scatter(x, y, s=30, facecolors="none", edgecolors=color, marker=marker, linewidths=0.9, zorder=2)
    if fit:
        compute = np.geomspace(*fit.compute, 200)
        axes.plot(compute / size, 100 - fit.best.error(compute)[0], color=color, linewidth=1, linestyle=":", zorder=2)


def _draw_front(axes: "Axes", points: Sequence[Point], size: float) -> None:
    front = pareto_front([(p.compute / size, p.accuracy) for p in points])
    axes.plot(*zip(*front, strict=True), color=_GREY, linewidth=0.9, linestyle=(0, (4, 2)), alpha=0.8, zorder=2)


def _entries_of_curves(fitted: bool, paper: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = [Line2D([], [], color=_GREY, linewidth=0.9, linestyle=(0, (4, 2)), label="Pareto front")]
    if fitted:
        entries.insert(0, Patch(facecolor=_GREY, alpha=0.3, label=f"power law, {LEVEL:.0%} band"))
    if paper:
        entries.append(Line2D([], [], color=_GREY, marker="o", mfc="none", ls="none", label="ViT paper, table 6"))
    return entries


def _legend(figure: "Figure", families: Iterable[str], more: Sequence[Any] = ()) -> None:
    """One row above the panels, where it hides nothing."""
    from matplotlib.lines import Line2D

    found = set(families)
    ordered = [family for family in FAMILIES if family in found]
    entries = [Line2D([], [], color=_color(f), marker=_style(f)[1], ls="none", label=f) for f in ordered] + [*more]
    figure.legend(handles=entries, loc="outside upper center", ncols=len(entries), frameon=False, handletextpad=0.3)


def draw_learning_curves(runs: Sequence[RunResult], path: Path) -> Path:
    """Draws training loss and test accuracy of every run against the compute spent so far.

    Args:
      runs: with records of training, one at least.
      path: the PNG to write.
    """
    evaluated = any("eval/accuracy" in record for run in runs for record in run.records)
    with _figure(path, (9.5 if evaluated else 5.5, 4.2)) as figure:
        loss, *more = figure.subplots(1, 1 + evaluated, squeeze=False)[0]
        _legend(figure, (run.cost.family for run in runs))
        loss.set(ylabel="training loss", yscale="log")
        ends = _draw_curves(loss, runs, "loss")
        _plain_numbers(loss.yaxis, [end.y for end in ends])
        place_labels(loss, ends)
        for axes in more:
            axes.set(ylabel="accuracy (%)")
            place_labels(axes, _draw_curves(axes, runs, "eval/accuracy", marked=True))
    return path


def _draw_curves(axes: "Axes", runs: Sequence[RunResult], key: str, marked: bool = False) -> list[Label]:
    """A line for each run that has such records, darker for more compute; gives the names of their ends."""
    unit, size = compute_unit(run.cost.exaflops for run in runs)
    most: dict[str, float] = {}
    for run in runs:
        most[run.cost.family] = max(run.cost.exaflops, most.get(run.cost.family, 0.0))
    ends: list[Label] = []
    for run in sorted(runs, key=lambda run: run.cost.exaflops):
        x, y = _series(run, key, size)
        if len(x):
            color, marker = _style(run.cost.family)
            shade = 0.45 + 0.55 * (run.cost.exaflops / most[run.cost.family]) ** 0.25
            axes.plot(x, y, color=color, alpha=shade, lw=1.1, marker=marker if marked else None, markersize=3)
            ends.append(Label(x[-1], y[-1], run.cost.model, color))
    _compute_axis(axes, [x for line in axes.get_lines() for x in np.asarray(line.get_xdata())], unit)
    return ends


def _series(run: RunResult, key: str, size: float) -> tuple[np.ndarray, np.ndarray]:
    """(compute spent, values) of one kind of record, averaged over neighbours where there are very many."""
    found = [(r["step"], r[key]) for r in run.records if r["step"] > 0 and is_number(r.get(key)) and r[key] > 0]
    if not found:
        return np.empty(0), np.empty(0)
    steps, values = np.array(found, float).T
    block = -(-len(steps) // _DRAWN)
    starts = np.arange(0, len(steps), block)
    counts = np.diff(np.append(starts, len(steps)))
    steps, values = (np.add.reduceat(v, starts) / counts for v in (steps, values))
    return steps / run.cost.steps * run.cost.exaflops / size, values * (1 if key == "loss" else 100)


# {what is on the y axis: {(family, model): [(x, y), ...]}}; each has its own panel.
Lines = Mapping[str, Mapping[tuple[str, str], Sequence[tuple[int, float]]]]


def draw_data_size(lines: Lines, path: Path) -> Path:
    """Draws accuracy in percent against the number of training images, as in the paper's figure 4."""
    return _draw_models(lines, path, "training images")


def draw_speed(lines: Lines, path: Path) -> Path:
    """Draws what inference costs against the side of the images, as in the paper's figure 12."""
    return _draw_models(lines, path, "side of the images (pixels)", yscale="log")


def _draw_models(lines: Lines, path: Path, xlabel: str, **more: Any) -> Path:
    """A line for each model over a logarithmic axis."""
    with _figure(path, (4.8 * len(lines) + 0.4, 4.0)) as figure:
        _legend(figure, (family for models in lines.values() for family, _ in models))
        for axes, (what, models) in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines.items(), strict=True):
            ends: list[Label] = []
            images: list[int] = []
            for (family, model), found in models.items():
                x, y = zip(*sorted(found), strict=True)
                color, marker = _style(family)
                axes.plot(x, y, color=color, marker=marker, markersize=4.5, linewidth=1.1)
                ends.append(Label(x[-1], y[-1], model, color))
                images += x
            axes.set(xlabel=xlabel, ylabel=what, xscale="log", **more)
            _plain_numbers(axes.xaxis, images)
            if more:
                _plain_numbers(axes.yaxis, [end.y for end in ends])
            axes.margins(x=0.12)
            place_labels(axes, ends)
    return path


@contextlib.contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator["Figure"]:
    """A figure that is written to `path` at the end."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=_DPI)


def _style(family: str) -> tuple[str, str]:
    return _STYLES[family]


def _color(family: str) -> str:
    return _style(family)[0]


def _compute_axis(axes: "Axes", values: Sequence[float], unit: str) -> None:
    axes.set(xscale="log", xlabel=f"training compute ({unit})")
    axes.set_xlim(min(values) / 1.25, max(values) * 1.5)
    _plain_numbers(axes.xaxis, values)


def _plain_numbers(axis: Any, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis as people write numbers, and enough of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = np.log10(max(values) / min(values))
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.grid(alpha=0.25, linewidth=0.6)


def _short(value: float) -> str:
    """`0.5`, `2,000`, `20k`, `300M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e4):
            return f"{value / size:,.10g}{letter}"
    return f"{value:,.10g}"
