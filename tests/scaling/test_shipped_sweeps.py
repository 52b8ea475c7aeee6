"""The sweeps that ship: each resolves, is priced without data, and has the rows that the papers have."""

import ast
import json
import re

import pytest

from tests.scaling.test_costs import PARAMETERS, TOLERANCES
from vit_jax.__main__ import main
from vit_jax.config_files import SHIPPED
from vit_jax.scaling import describe_sweep, load_sweep, sovit_shape, sweep_rows
from vit_jax.scaling.table6 import EVALUATIONS, TABLE_6
from vit_jax.train import open_split

SWEEPS = {
    "scaling_study.py": (18, 90),
    "scaling_study.py:pretrain,name=my_set": (18, 0),
    "data_size.py": (24, 0),
    "data_size.py:regularisation": (100, 0),
    "shapes.py": (22, 0),
    "positions.py": (8, 0),
    "pooling.py": (8, 0),
    "optimizers.py": (4, 20),
    "sovit.py": (6, 0),
    "finetune_grid.py:B/16,cifar100": (12, 0),
    "finetune_grid.py:R50x1,oxford_iiit_pet": (12, 0),
    "vtab.py:B/16": (57, 0),
    "vtab.py:R50+B/16,choose,weights=w": (76, 0),
    "computational_cost.py": (38, 0),
    "digits_scaling.py": (12, 12),
    "digits_scaling.py:seeds=3": (36, 36),
}


def sweep_of(name):
    return load_sweep(f"configs/sweeps/{name}")


@pytest.mark.parametrize("name", SWEEPS)
def test_it_has_so_many_runs_and_transfers(name):
    runs = sweep_of(name).runs
    firsts = [run for run in runs if not run.parent]
    assert (len(firsts), len(runs) - len(firsts)) == SWEEPS[name]
    assert len({run.name for run in runs}) == len(runs)


def test_every_file_is_tested_and_says_how_it_is_run_and_what_was_found():
    files = {path.name for path in (SHIPPED / "sweeps").glob("*.py")} - {"__init__.py"}
    assert files == {name.partition(":")[0] for name in SWEEPS}
    for name in files:
        text = ast.get_docstring(ast.parse((SHIPPED / "sweeps" / name).read_text()))
        assert f"vit_jax sweep --config=configs/sweeps/{name}" in text
        assert re.search(r"arXiv \d{4}\.\d{5}|section \d", text)
        assert "found" in text


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in SWEEPS if not name.startswith("scaling_study.py")])
def test_it_is_priced_without_any_data(name, monkeypatch):
    def opened(settings, *where):
        assert settings.data.name == "synthetic", settings.data
        return open_split(settings, *where)

    monkeypatch.setattr("vit_jax.scaling.costs.open_split", opened)
    sweep = sweep_of(name)
    rows = sweep_rows(sweep, describe_sweep(sweep))
    assert all(row.cost.exaflops > 0 and row.cost.steps > 0 for row in rows)
    assert sum(1 + len(row.transfers) for row in rows) == len(sweep.runs)


@pytest.mark.long
def test_the_scaling_study_has_the_rows_parameters_and_compute_of_table_6(capsys):
    assert main(["sweep", "--config=configs/sweeps/scaling_study.py", "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 18
    assert sum(1 + len(row["transfers"]) for row in rows) == len(sweep_of("scaling_study.py").runs)
    for row, published in zip(rows, TABLE_6, strict=True):
        assert (row["model"], row["family"]) == (published.model, published.family)
        assert row["parameters"] == PARAMETERS[row["model"]]
        assert row["epochs"] == pytest.approx(published.epochs, rel=1e-5)
        tolerance = TOLERANCES.get((published.model, published.epochs), 0.01)
        assert row["exaflops"] == pytest.approx(published.exaflops, rel=tolerance)
        assert row["images"] == row["steps"] * 4096
        assert {t["data"] for t in row["transfers"]} | {"imagenet2012_real"} == set(EVALUATIONS)
        assert all(t["image_size"] == [384, 384] and t["parent"] == row["name"] for t in row["transfers"])


def test_the_scaling_study_trains_as_tables_3_and_4_say():
    """Independent of configs/pretrain.py: the numbers as printed."""
    rates = {"B": 8e-4, "L/32": 6e-4, "L/16": 4e-4, "H": 3e-4, "R50x": 1e-3, "R101": 8e-4, "R152": 6e-4}
    rates |= {"R50+B": 8e-4, "R50+L/32": 2e-4, "R50+L/16": 4e-4}
    for run in sweep_of("scaling_study.py").runs:
        settings = run.settings
        variant = settings.model.variant
        if run.parent:
            assert (settings.optimizer.name, settings.train.batch_size) == ("sgd", 512)
            assert settings.init.checkpoint == f"runs/{run.parent}"
            assert ("real" in settings.evaluators) == (settings.data.task == "imagenet2012")
            continue
        (rate,) = {rate for start, rate in rates.items() if variant.startswith(start)} or {6e-4}  # R200x3: not stated
        assert settings.schedule.learning_rate == rate
        assert (settings.train.batch_size, settings.optimizer.weight_decay) == (4096, 0.1)
        assert settings.model.pre_logits == ("/" in variant)


def test_the_parts_of_jft_are_those_of_figure_4():
    sweep = sweep_of("data_size.py")
    assert {run.settings.data.subset for run in sweep.runs} == {"9M", "30M", "90M", None}
    half = next(run for run in sweep.runs if run.settings.model.variant == "S/32").settings.model.resolved.encoder
    assert (half.width, half.depth, half.mlp_dim) == (384, 12, 1536)  # half of B


def test_the_set_to_train_on_is_that_of_the_argument_and_not_of_the_transfers():
    runs = sweep_of("scaling_study.py:name=my_set").runs
    assert {run.settings.data.name for run in runs if not run.parent} == {"my_set"}
    assert "my_set" not in {run.settings.data.name for run in runs if run.parent}


@pytest.mark.parametrize(
    ("compute", "published", "within"),
    [(90, (880, 18, 2320), 0.12), (1800, (1152, 27, 4304), 0.15)],  # SoViT-150m/14 and -400m/14
)
def test_the_published_shapes_follow_the_rule(compute, published, within):
    shape = sovit_shape(compute)
    assert (shape.width, shape.depth, shape.mlp_dim) == pytest.approx(published, rel=within)
    assert shape.width == 64 * shape.heads


def test_the_mlp_grows_fastest_and_the_width_slowest():
    small, large = sovit_shape(1), sovit_shape(1e4)
    growth = [getattr(large, name) / getattr(small, name) for name in ("width", "depth", "mlp_dim")]
    assert growth == sorted(growth)
    # A thousand times the compute, by the exponents: 10 ** 0.22, 10 ** 0.45 and 10 ** 0.6, up to rounding.
    grown = [getattr(sovit_shape(1e3), name) / getattr(small, name) for name in ("width", "depth", "mlp_dim")]
    assert grown == pytest.approx([1.66, 2.82, 3.98], rel=0.06)
    with pytest.raises(ValueError, match="starts at 1"):
        sovit_shape(0.5)
