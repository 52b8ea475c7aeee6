"""Sweep files: how their points become runs, what the runs are called, and what is refused."""

import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.errors import UserError
from vit_jax.scaling import load_sweep, run_name
from vit_jax.settings import build, to_dict
from vit_jax.train import RunSettings

BASE = """
    from ml_collections import ConfigDict
    def get_config(batch="64"):
        return ConfigDict({"model": {"variant": "mu/2"}, "train": {"batch_size": int(batch)}})
"""


@pytest.fixture
def sweep_file(tmp_path):
    def write(get_hyper, base=BASE):
        path = tmp_path / "s.py"
        indented = textwrap.indent(textwrap.dedent(get_hyper), "    ")
        path.write_text(textwrap.dedent(base) + f"\ndef get_hyper(hyper):\n{indented}\n")
        return str(path)

    return write


TWO = 'return hyper.sweep("schedule.learning_rate", [1e-3, 1])'


def test_each_point_is_the_whole_config_with_its_values(sweep_file):
    sweep = load_sweep(sweep_file(TWO))
    expected = {"model": {"variant": "mu/2"}, "train": {"batch_size": 64}}
    for run, rate in zip(sweep.runs, (1e-3, 1.0), strict=True):
        assert run.settings == build(RunSettings, {**expected, "schedule": {"learning_rate": rate}})
        assert run.overrides == {"config.schedule.learning_rate": rate}


def test_argument_and_flags_hold_for_all_runs(sweep_file):
    sweep = load_sweep(sweep_file(TWO) + ":32", ["--config.log.every=7 steps", "--noconfig.log.tensorboard"])
    assert sweep.flags == ("--config.log.every=7 steps", "--noconfig.log.tensorboard")
    assert {r.settings.train.batch_size for r in sweep.runs} == {32}
    assert {(r.settings.log.every, r.settings.log.tensorboard) for r in sweep.runs} == {("7 steps", False)}


def test_an_empty_product_is_the_config_alone(sweep_file):
    (run,) = load_sweep(sweep_file("return hyper.product([])")).runs
    assert run.settings.model.variant == "mu/2"
    assert re.fullmatch("base_[0-9a-f]{8}", run.name)


def test_values_derived_by_reference_follow_the_point(sweep_file):
    base = """
        from ml_collections import ConfigDict
        def get_config():
            c = ConfigDict({"train": {"batch_size": 1024}, "schedule": {}})
            c.schedule.learning_rate = c.train.get_ref("batch_size") * 1e-5
            return c
    """
    sweep = load_sweep(sweep_file('return hyper.sweep("train.batch_size", [100, 200])', base))
    assert [r.settings.schedule.learning_rate for r in sweep.runs] == pytest.approx([1e-3, 2e-3])


def test_a_config_that_only_makes_sense_with_its_points_is_fine(sweep_file):
    base = 'from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({"model": {"trunk_width": 2}})'
    sweep = load_sweep(sweep_file('return hyper.sweep("model.variant", ["R50x1", "R101x1"])', base))
    assert [r.settings.model.resolved.trunk.width for r in sweep.runs] == [2, 2]


def test_names_of_the_papers_runs_can_be_read(sweep_file):
    get_hyper = """
        return hyper.table(
            ("schedule.learning_rate", "train.duration", "model.variant", "model.pre_logits", "data.image_size"),
            [(4e-4, "14 epochs", "R50+L/16", True, (224, 384))],
        )
    """
    (run,) = load_sweep(sweep_file(get_hyper)).runs
    assert re.fullmatch(r"R50\+L-16_14epochs_lr0.0004_image_size224x384_pre_logits-True_[0-9a-f]{8}", run.name)


# --- names ---

values = {
    "config.model.variant": st.sampled_from(["B/16", "R50+B/32", "R152x4"]),
    "config.train.duration": st.sampled_from(["7 epochs", "1.5M examples", "10k steps"]),
    "config.schedule.learning_rate": st.floats(1e-6, 1.0),
    "config.seed": st.integers(0, 2**32 - 1),
    "config.data.name": st.text(st.characters(codec="utf-8"), max_size=80),
    "config.data.image_size": st.tuples(st.integers(32, 999), st.integers(32, 999)),
    "config.train.ema_decay": st.sampled_from([0.0, 0.9999]),
    "config.data.subset": st.sampled_from([None, "9M", "10%", "../../up"]),
}
points = st.fixed_dictionaries({}, optional=values)


def named(point):
    config = {}
    for key, value in point.items():
        *groups, last = key.removeprefix("config.").split(".")
        below = config
        for group in groups:
            below = below.setdefault(group, {})
        below[last] = value
    return run_name(point, build(RunSettings, config))


@settings(deadline=None)
@given(points)
def test_every_name_is_short_and_safe_in_a_file_system(point):
    name = named(point)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*_[0-9a-f]{8}", name)
    assert len(name) <= 70
    assert ".." not in name.split("_")


@settings(deadline=None)
@given(points, st.randoms())
def test_a_name_does_not_depend_on_the_order_of_keys(point, random):
    keys = list(point)
    random.shuffle(keys)
    assert named({key: point[key] for key in keys}) == named(point)


@settings(deadline=None)
@given(points, points)
def test_different_points_have_different_names(one, other):
    assert (named(one) == named(other)) == (one == other)


def test_names_stay_when_points_are_added_or_moved(sweep_file):
    few = 'return hyper.product([hyper.sweep("seed", [0, 1]), hyper.sweep("model.variant", ["mu/2", "mu/4"])])'
    many = (
        'return hyper.product([hyper.sweep("model.variant", ["mu/4", "mu/8", "mu/2"]), hyper.sweep("seed", [2, 1, 0])])'
    )
    before = {run.name: run.settings for run in load_sweep(sweep_file(few)).runs}
    after = {run.name: run.settings for run in load_sweep(sweep_file(many)).runs}
    assert len(before) == 4
    assert len(after) == 9
    assert before.items() <= after.items()


def test_how_a_number_is_written_does_not_change_the_name():
    settings = build(RunSettings, {"schedule": {"learning_rate": 1}})
    key = "config.schedule.learning_rate"
    assert run_name({key: 1}, settings) == run_name({key: 1.0}, settings)


# --- what is refused ---


@pytest.mark.parametrize(
    ("get_hyper", "message"),
    [
        ('return hyper.sweep("model.varient", ["B/16"])', r"s.py: point 0 of 1, model.varient='B/16': config.model.v"),
        ('return hyper.sweep("model.varient", ["B/16"])', 'unknown key; did you mean "variant"'),
        ('return hyper.sweep("model.variant", ["mu/2", "mu2"])', "point 1 of 2, model.variant='mu2': config.model.var"),
        ('return hyper.sweep("model", ["mu/2"])', "config.model = 'mu/2': is a group"),
        ('return hyper.sweep("seed.x", [1])', "config.seed is a value, not a group"),
        ('return hyper.sweep("seed", [1.5])', "config.seed = 1.5: must be int, not float"),
        ('return hyper.sweep("seed", [1, 2, 1])', r"point 2 of 3, seed=1 is the same run as seed1_\w+; drop one"),
        ('return hyper.chainit([hyper.fixed("seed", 0), hyper.product([])])', "point 1 of 2, .* is the same run"),
        ('return hyper.sweep("seed", [])', r"s.py: hyper.sweep\('seed'\): no values"),
        ("return []", "sweep 0 has no points"),
        ("return None", "get_hyper fails|s.py"),
        ("return 1 / 0", r"get_hyper fails \(ZeroDivisionError: division by zero\)"),
    ],
)
def test_a_bad_sweep_is_refused_in_one_line_that_names_the_point(get_hyper, message, sweep_file):
    with pytest.raises(UserError, match=message) as error:
        load_sweep(sweep_file(get_hyper))
    assert "\n" not in str(error.value)


def test_a_config_without_points_is_sent_to_train():
    with pytest.raises(UserError, match=r"configs/digits.py defines no get_hyper\(hyper\)"):
        load_sweep("configs/digits.py")


def test_a_flag_cannot_change_what_the_points_set(sweep_file):
    with pytest.raises(UserError, match=r"config.schedule.learning_rate is part of the sweep, no flag can change it"):
        load_sweep(sweep_file(TWO), ["--config.schedule.learning_rate=3"])


def test_a_long_point_is_shortened_in_messages(sweep_file):
    with pytest.raises(UserError) as error:
        load_sweep(sweep_file('return hyper.product([hyper.sweep("data.name", ["x" * 500]), hyper.fixed("seed", -1)])'))
    assert len(str(error.value).partition(": config.")[0]) < 300


def test_settings_survive_json(sweep_file):
    for run in load_sweep(sweep_file(TWO)).runs:
        assert build(RunSettings, to_dict(run.settings)) == run.settings
