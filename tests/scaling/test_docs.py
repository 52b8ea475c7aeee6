"""The code of docs/studies.md does what the page says."""

import re
from pathlib import Path

import pytest

from vit_jax.scaling import hyper, load_sweep

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
SWEEP, COSTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


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


def test_the_table_lists_every_function():
    functions = re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)
    public = [name for name, item in vars(hyper).items() if callable(item) and item.__module__ == hyper.__name__]
    assert sorted(functions) == sorted(name for name in public if not name.startswith("_") and name != "full_key")


@pytest.mark.slow
def test_the_costs_are_printed(study_file, capsys):
    exec(COSTS, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    assert " ResNet 25,549,352 " in next(line for line in lines if line.startswith("R50x1"))
