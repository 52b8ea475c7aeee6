"""The code of docs/studies.md does what the page says."""

import inspect
import re
from pathlib import Path

import pytest

from vit_jax.scaling import compute_gains, fit_families, hyper, load_sweep
from vit_jax.scaling.comparison import AVERAGE, points_of_paper
from vit_jax.scaling.gains import times

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "studies.md").read_text()
SWEEP, TRANSFERS, COSTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def study_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.py").write_text(SWEEP)
    return "study.py"


def test_the_sweep_has_the_runs_and_names_it_promises(study_file):
    runs = load_sweep(study_file).runs
    assert len(runs) == 4 * 2 * 3
    name = re.search(r"`(L-16_\S*?_)…`", PAGE)[1]
    assert sum(run.name.startswith(name) for run in runs) == 1
    assert {r.settings.model.variant for r in runs if r.settings.model.pre_logits} == {"B/32", "L/16"}


def test_the_study_in_steps_has_its_transfers(study_file):
    Path(study_file).write_text(TRANSFERS)
    runs = load_sweep(study_file).runs
    assert [bool(run.parent) for run in runs] == [False, True, True] * 2
    assert [run.settings.model.variant for run in runs] == ["B/16"] * 3 + ["L/16"] * 3


def test_the_sweeps_that_ship_are_listed():
    listed = set(re.findall(r"^\| `(\w+\.py)", PAGE, re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "configs" / "sweeps").glob("*.py")} - {"__init__.py"}


def test_the_table_lists_every_function():
    functions = re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)
    items = {name: item for name, item in vars(hyper).items() if getattr(item, "__module__", "") == hyper.__name__}
    public = [name for name, item in items.items() if inspect.isfunction(item) and not name.startswith("_")]
    assert sorted(functions) == sorted(set(public) - {"full_key"})


@pytest.mark.parametrize(
    ("evaluation", "files"), [(AVERAGE, ["README.md", "docs/studies.md"]), ("imagenet2012", ["docs/studies.md"])]
)
def test_what_is_said_of_the_papers_numbers_is_what_the_report_says(evaluation, files):
    families = {f: [(p.compute, p.accuracy) for p in found] for f, found in points_of_paper(evaluation).items()}
    gains = compute_gains(families, fit_families(families))
    (gain,) = (g for g in gains if (g.frugal, g.costly) == ("ViT", "ResNet"))
    for file in files:
        text = " ".join((ROOT / file).read_text().split())
        assert re.search(rf"{times(gain.typical)} times less[^.]*? \((90 % interval )?{gain.sure}\)", text)


@pytest.mark.slow
def test_the_costs_are_printed(study_file, capsys):
    exec(COSTS, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    assert " ResNet 25,549,352 " in next(line for line in lines if line.startswith("R50x1"))
