"""The report of a study: what it says, shows and writes."""

import csv
import re

import pytest

from tests.scaling.studies import result, the_papers_study
from vit_jax.errors import UserError
from vit_jax.scaling import Study, write_report
from vit_jax.scaling.table6 import EVALUATIONS, TABLE_6


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report(the_papers_study(device_days=700.0, seconds=5025.0), folder), folder


def table_below(markdown, heading):
    part = markdown.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_the_claim_of_the_paper_is_said_first(paper):
    report, _ = paper
    assert report.sentences[0] == "18 of 18 runs are done; 12,600 device-days so far."
    (said,) = (s for s in report.sentences if "ViTs need" in s and "than ResNets" in s)
    found = re.search(r"ViTs need ([0-9.]+) times less compute .*90% interval ([0-9.]+) to ([0-9.]+)", said)
    typical, low, high = map(float, found.groups())
    assert low < typical < high
    assert 2 <= typical <= 4
    assert "average accuracy on five data sets" in said


def test_the_table_is_table_6(paper):
    rows = table_below((paper[1] / "report.md").read_text(), "Runs")
    assert len(rows) == 18
    for row, run in zip(rows, TABLE_6, strict=True):
        assert row["model"] == run.model
        assert float(row["ImageNet"]) == run.accuracies["imagenet2012"]
        assert float(row["Oxford Flowers-102"]) == run.accuracies["oxford_flowers102"]
        assert float(row["exaFLOPs"].replace(",", "")) == run.exaflops
        assert (row["device-days"], row["time"]) == ("700", "1:23:45")


def test_everything_is_written_and_named(paper):
    report, folder = paper
    assert {path.parent for path in report.files} == {folder}
    assert {path.name for path in report.files} == {path.name for path in folder.iterdir()}
    assert report.files[0].name == "report.html"
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {f"accuracy_{name}.png" for name in (*EVALUATIONS, "average_of_5")}
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)


def test_the_csv_has_every_number(paper):
    with open(paper[1] / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, run in zip(rows, TABLE_6, strict=True):
        assert {name: float(row[name]) for name in EVALUATIONS} == run.accuracies
        assert float(row["exaflops"]) == run.exaflops
        assert row["status"] == "done"


def test_runs_that_are_not_done_are_listed_with_their_errors_and_not_compared(tmp_path):
    runs = [
        result(name="good_x", scores={"eval": 80.0}),
        result("failed", name="bad_x", scores={"eval": 99.0}, step=7, error="step 8 diverged: loss = nan"),
        result("unfinished", name="half_x", scores={"eval": 70.0}, step=30),
        result("waiting", name="idle_x"),
    ]
    report = write_report(Study("s.py", tuple(runs)), tmp_path)
    assert report.sentences == ["1 of 4 runs are done, 1 failed, 1 unfinished, 1 waiting."]
    markdown = (tmp_path / "report.md").read_text()
    problems = {row["run"]: row for row in table_below(markdown, "Not done")}
    assert list(problems) == ["bad_x", "half_x", "idle_x"]
    assert problems["bad_x"]["error"] == "step 8 diverged: loss = nan"
    assert problems["half_x"]["step"] == "30 of 50"
    accuracies = [row["accuracy"] for row in table_below(markdown, "Runs")]
    assert accuracies == ["80.00", "failed", "unfinished", "waiting"]
    assert "No curve for ViT" in markdown


def test_a_sweep_that_has_not_begun_has_a_report_too(tmp_path):
    report = write_report(Study("s.py", (result("waiting"),)), tmp_path)
    assert report.sentences == ["0 of 1 runs are done, 1 waiting."]
    assert {path.name for path in report.files} == {"report.html", "report.md", "runs.csv"}


def test_learning_curves_and_data_sizes_are_shown_where_there_are_any(tmp_path):
    records = [{"step": s, "loss": 1 / s} for s in range(1, 51)]
    runs = [
        result(
            name=f"{n}_x",
            examples=n,
            scores={"eval": 50.0 + n / 100},
            records=records,
            few_shot={("fs/cifar10", 5): n / 20},
        )
        for n in (500, 1000)
    ]
    report = write_report(Study("s.py", tuple(runs)), tmp_path)
    names = {path.name for path in report.files}
    assert {"learning_curves.png", "data_size.png"} <= names
    with open(tmp_path / "runs.csv", newline="") as file:
        assert [row["fs/cifar10/5_shot"] for row in csv.DictReader(file)] == ["25.0", "50.0"]


def test_a_run_that_diverged_does_not_spoil_the_learning_curves(tmp_path):
    exploded = [{"step": s, "loss": 10.0**s} for s in range(1, 20)]
    report = write_report(Study("s.py", (result("failed", records=exploded, error="diverged"),)), tmp_path)
    assert "learning_curves.png" not in {path.name for path in report.files}


def test_families_without_a_common_accuracy_are_not_compared(tmp_path):
    runs = [
        result(model="B/16", scores={"eval": 80.0}),
        result(model="R50x1", family="ResNet", scores={"eval": 70.0}),
    ]
    said = write_report(Study("s.py", tuple(runs)), tmp_path).sentences
    assert said[1:] == ["No two families reach a common accuracy, so none is said to need less compute."]


def test_without_several_data_sizes_there_is_no_picture_of_them(tmp_path):
    report = write_report(Study("s.py", (result(scores={"eval": 50.0}),)), tmp_path)
    assert "data_size.png" not in {path.name for path in report.files}


def test_the_papers_points_are_drawn_only_for_its_evaluations(tmp_path):
    own = Study("s.py", (result(scores={"eval": 50.0}),))
    assert "none of its points are drawn" in write_report(own, tmp_path / "a", paper=True).sentences[-1]
    shared = Study("s.py", (result(scores={"imagenet2012": 50.0}),))
    plain = write_report(shared, tmp_path / "b")
    both = write_report(shared, tmp_path / "c", paper=True)
    assert both.sentences == plain.sentences
    assert "Hollow: the ViT paper" in (tmp_path / "c" / "report.md").read_text()
    assert (tmp_path / "b" / "accuracy_imagenet2012.png").read_bytes() != (
        tmp_path / "c" / "accuracy_imagenet2012.png"
    ).read_bytes()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"report folder '.*file/r' cannot be written"):
        write_report(the_papers_study(), tmp_path / "file" / "r")


def test_the_cost_of_inference_is_drawn_where_it_was_measured(tmp_path):
    def run(model, side, rate, more=()):
        speed = {("speed", "images_per_second"): rate, ("speed", "batch"): 64.0} | dict(more)
        return result(name=f"{model}_{side}", model=model, image_size=(side, side), speed=speed)

    largest = {("speed", "largest"): 512.0}
    runs = [run("B/16", 64, 1000.5, largest), run("B/16", 128, 300.0), run("L/16", 64, 100.0)]
    report = write_report(Study("s.py", tuple(runs)), tmp_path)
    assert "speed.png" in {path.name for path in report.files}
    rows = table_below((tmp_path / "report.md").read_text(), "Cost of inference")
    assert [row["images a second"] for row in rows] == ["1,000.5", "300.0", "100.0"]
    assert [row["largest batch"] for row in rows] == ["512", "", ""]
    assert {row["in batches of"] for row in rows} == {"64"}


def test_a_run_and_its_transfers_are_one_row(tmp_path):
    def transfer(name, value, status="done", data="cifar10", **more):
        return result(status, name=name, parent="first_x", data=data, scores={"eval": value}, **more)

    runs = [
        result(name="first_x", data="jft", scores={"eval": 40.0}, exaflops=55.0),
        transfer("a_x", 80.0, overrides={"config.schedule.learning_rate": 0.1, "config.seed": 0}),
        transfer("b_x", 90.0, overrides={"config.schedule.learning_rate": 0.1, "config.seed": 1}),
        transfer("c_x", 70.0, overrides={"config.schedule.learning_rate": 0.3}),
        transfer("d_x", 99.0, "unfinished", "cifar100"),
    ]
    report = write_report(Study("s.py", tuple(runs)), tmp_path)
    assert report.sentences[0] == "4 of 5 runs are done, 1 unfinished."
    markdown = (tmp_path / "report.md").read_text()
    (row,) = table_below(markdown, "Runs")
    # The better rate, mean over its seeds; compute is that of pre-training; what is not done does not count.
    assert (row["CIFAR-10"], row["accuracy"], row["exaFLOPs"]) == ("85.00", "40.00", "55")
    assert "CIFAR-100" not in row
    assert [row["run"] for row in table_below(markdown, "Not done")] == ["d_x"]
