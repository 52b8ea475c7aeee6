"""Pictures: what is on them, and that names never lie on each other."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from tests.scaling.studies import result
from vit_jax.scaling.comparison import points_of_paper
from vit_jax.scaling.drawing import draw_accuracy, draw_data_size, draw_learning_curves
from vit_jax.scaling.gains import fit_families
from vit_jax.scaling.labels import Label, place_labels


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))
    return figures


def size_of(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def names_on(axes):
    return {text.get_text() for text in axes.texts if isinstance(text, Annotation) and text.get_visible()}


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def fits_of(families):
    return fit_families({name: [(p.compute, p.accuracy) for p in points] for name, points in families.items()})


def test_the_papers_figure_has_its_points_names_and_curves(drawn, tmp_path):
    families = points_of_paper("imagenet2012")
    path = draw_accuracy(families, fits_of(families), tmp_path / "new" / "a.png", "ImageNet (%)")
    assert size_of(path) == (1120, 768)
    (axes,) = drawn[0].axes
    assert names_on(axes) == {point.label for points in families.values() for point in points}
    assert legend_of(drawn[0]) == ["ViT", "hybrid", "ResNet", "power law, 90% band", "Pareto front"]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == (
        "log",
        "training compute (exaFLOPs)",
        "ImageNet (%)",
    )
    markers = np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets()) > 1])
    assert {tuple(row) for row in markers} == {(p.compute, p.accuracy) for f in families.values() for p in f}
    assert "1,000" in [axes.xaxis.get_major_formatter()(tick) for tick in axes.get_xticks()]


def test_reference_points_are_hollow_and_nameless(drawn, tmp_path):
    paper = points_of_paper("imagenet2012")
    mine = {"ViT": [type(p)(f"mine {p.label}", p.compute / 1000, p.accuracy - 9) for p in paper["ViT"]]}
    draw_accuracy(mine, {}, tmp_path / "a.png", "accuracy (%)", paper, fits_of(paper))
    (axes,) = drawn[0].axes
    assert names_on(axes) == {point.label for point in mine["ViT"]}
    assert legend_of(drawn[0]) == ["ViT", "Pareto front", "ViT paper, table 6"]
    hollow = [c for c in axes.collections if not len(c.get_facecolors())]
    assert sum(len(c.get_offsets()) for c in hollow) == 18


def test_one_run_is_enough_for_a_picture(tmp_path):
    (point, *_) = points_of_paper("imagenet2012")["ViT"]
    assert size_of(draw_accuracy({"ViT": [point]}, {}, tmp_path / "a.png", "accuracy (%)"))


def records(steps, final):
    lines = [{"step": s, "loss": 2.0 / s, "accuracy": 0.5} for s in range(1, steps + 1)]
    return [*lines, {"step": steps, "eval/accuracy": final, "eval/loss": 1.0}]


def test_learning_curves_are_drawn_over_compute(drawn, tmp_path):
    runs = [
        result(model=model, family=family, exaflops=compute, records=records(50, 0.9))
        for model, family, compute in [("B/16", "ViT", 10.0), ("R50x1", "ResNet", 30.0), ("L/16", "ViT", 40.0)]
    ]
    path = draw_learning_curves(runs, tmp_path / "c.png")
    assert size_of(path)[0] > 1400
    loss, accuracy = drawn[0].axes
    assert names_on(loss) == {"B/16", "R50x1", "L/16"}
    assert legend_of(drawn[0]) == ["ViT", "ResNet"]
    ends = sorted(line.get_xdata()[-1] for line in loss.get_lines())
    assert ends == pytest.approx([10, 30, 40])
    assert [line.get_ydata()[-1] for line in accuracy.get_lines()] == [90, 90, 90]


def test_long_curves_are_averaged_not_thinned(drawn, tmp_path):
    run = result(steps=3000, records=[{"step": s, "loss": 1 + s % 2} for s in range(1, 3001)])
    draw_learning_curves([run], tmp_path / "c.png")
    (axes,) = drawn[0].axes  # nothing was evaluated: one panel
    (line,) = axes.get_lines()
    assert len(line.get_xdata()) == 300
    assert line.get_ydata() == pytest.approx(1.5)


def test_losses_that_are_no_numbers_are_left_out(drawn, tmp_path):
    values = [2.0, "nan", 1.0, 0.0, "inf"]
    draw_learning_curves(
        [result(records=[{"step": i + 1, "loss": v} for i, v in enumerate(values)])], tmp_path / "c.png"
    )
    assert drawn[0].axes[0].get_lines()[0].get_ydata().tolist() == [2.0, 1.0]


def test_data_sizes_are_written_short(drawn, tmp_path):
    models = {("ViT", "B/32"): [(300_000_000, 60.0), (9_000_000, 40.0)], ("ResNet", "R50x1"): [(9_000_000, 45.0)]}
    draw_data_size({"5-shot (%)": models, "10-shot (%)": models}, tmp_path / "d.png")
    one, other = drawn[0].axes
    assert (one.get_ylabel(), other.get_ylabel()) == ("5-shot (%)", "10-shot (%)")
    assert names_on(one) == {"B/32", "R50x1"}
    assert {"10M", "100M"} <= {one.xaxis.get_major_formatter()(tick) for tick in one.get_xticks()}
    assert one.get_lines()[0].get_xdata().tolist() == [9_000_000, 300_000_000]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25), st.data())
def test_names_never_overlap_each_other_or_a_marker(places, data):
    figure = Figure(figsize=(4, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))])
    labels = [Label(x, y, f"model {i}", "#000000") for i, (x, y) in enumerate(places)]
    place_labels(axes, labels[::2], [(label.x, label.y) for label in labels[1::2]])
    boxes = [text.get_window_extent() for text in axes.texts if text.get_visible()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    centres = axes.transData.transform(places)
    assert not any(box.contains(x, y) for box in boxes for x, y in centres)
    assert all(box.x1 <= axes.bbox.x1 + 5 and box.x0 >= axes.bbox.x0 for box in boxes)


def test_a_lone_name_stands_beside_its_point_and_off_the_line():
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0.5, 0.5])
    place_labels(axes, [Label(0.5, 0.5, "name", "#000000")])
    (text,) = axes.texts
    x, y = axes.transData.transform((0.5, 0.5))
    box = text.get_window_extent()
    assert text.get_visible()
    assert not box.y0 <= y <= box.y1
    assert abs((box.y0 + box.y1) / 2 - y) < 30
    assert box.x0 < x + 5
