"""The table of a sweep against the ViT paper's table 6 and its own arithmetic."""

import pytest

from vit_jax.errors import BadSetting, UserError
from vit_jax.scaling import DataSize, describe_sweep, load_sweep
from vit_jax.scaling.table6 import TABLE_6

JFT = DataSize(302_982_257, 18_291)

# The paper's table 3: base learning rates of pre-training on JFT-300M.
PAPER = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({
        "data": {"name": "jft", "image_size": (224, 224)},
        "train": {"batch_size": 4096, "loss": "sigmoid"},
        "optimizer": {"weight_decay": 0.1},
        "schedule": {"name": "linear", "warmup": "10k steps"},
    })

def get_hyper(hyper):
    keys = ("model.variant", "train.duration", "schedule.learning_rate")
    vits = hyper.table(keys, [
        ("B/32", "7 epochs", 8e-4), ("B/16", "7 epochs", 8e-4), ("L/32", "7 epochs", 6e-4),
        ("L/16", "7 epochs", 4e-4), ("L/16", "14 epochs", 4e-4), ("H/14", "14 epochs", 3e-4),
    ])
    resnets = hyper.table(keys, [
        ("R50x1", "7 epochs", 1e-3), ("R50x2", "7 epochs", 1e-3), ("R101x1", "7 epochs", 8e-4),
        ("R152x1", "7 epochs", 6e-4), ("R152x2", "7 epochs", 6e-4), ("R152x2", "14 epochs", 6e-4),
        ("R200x3", "14 epochs", 6e-4),
    ])
    hybrids = hyper.table(keys, [
        ("R50+B/32", "7 epochs", 8e-4), ("R50+B/16", "7 epochs", 8e-4), ("R50+L/32", "7 epochs", 2e-4),
        ("R50+L/16", "7 epochs", 4e-4), ("R50+L/16", "14 epochs", 4e-4),
    ])
    points = hyper.chainit([vits, resnets, hybrids])
    return hyper.when(lambda p: "/" in p["config.model.variant"], points, {"model.pre_logits": True})
"""

# With the pre-training head and 18,291 classes, derived from the shapes in tests/models/test_parameter_counts.py.
PARAMETERS = {
    "B/32": 102_111_603,
    "B/16": 100_455_027,
    "L/32": 325_308_275,
    "L/16": 323_099_507,
    "H/14": 655_835_251,
    "R50x1": 60_978_611,
    "R50x2": 168_829_939,
    "R101x1": 79_970_739,
    "R152x1": 95_614_387,
    "R152x2": 307_176_435,
    "R200x3": 674_886_195,
    "R50+B/32": 124_833_203,
    "R50+B/16": 112_546_483,
    "R50+L/32": 347_767_731,
    "R50+L/16": 335_256_499,
}
# B/32 is 2 % off by any convention; R50+L/16 after 7 epochs contradicts its own 14-epoch row.
TOLERANCES = {("B/32", 7): 0.021, ("R50+L/16", 7): 0.032}


@pytest.mark.slow
def test_the_papers_study_has_its_parameters_and_its_compute(tmp_path):
    path = tmp_path / "paper.py"
    path.write_text(PAPER)
    rows = describe_sweep(load_sweep(str(path)), lambda settings: JFT)
    assert len(rows) == 18
    assert len({row.name for row in rows}) == 18
    for row, published in zip(rows, TABLE_6, strict=True):
        assert (row.model, row.family) == (published.model, published.family)
        assert row.parameters == PARAMETERS[row.model]
        assert row.epochs == pytest.approx(published.epochs, rel=1e-5)
        tolerance = TOLERANCES.get((published.model, published.epochs), 0.01)
        assert row.exaflops == pytest.approx(published.exaflops, rel=tolerance)
    assert {row.steps for row in rows} == {517_792, 1_035_584}  # 302,982,257 x 7 / 4096 = 517,791.9


TINY = """
from ml_collections import ConfigDict
def get_config():
    return ConfigDict({"model": {"variant": "mu/8"}, "data": {"name": "synthetic", "image_size": (16, 32)},
                       "train": {"batch_size": 10, "duration": "3 epochs"}})
def get_hyper(hyper):
    return hyper.%s
"""


@pytest.fixture
def tiny(tmp_path):
    def load(points):
        path = tmp_path / "tiny.py"
        path.write_text(TINY % points)
        return load_sweep(str(path))

    return load


def test_compute_follows_from_images_and_shapes(tiny):
    """One block of width 32 over 8 patches and a class token, by hand."""
    (row,) = describe_sweep(tiny("product([])"), lambda settings: DataSize(104, 7))
    tokens, width = 9, 32
    multiply_adds = 8 * (8 * 8 * 3) * width + tokens * 12 * width**2 + 2 * tokens**2 * width
    assert row.steps == 31  # 3 x 104 / 10, rounded
    assert row.epochs == pytest.approx(310 / 104)
    assert row.exaflops == pytest.approx(3 * 2 * multiply_adds * 310 / 1e18, rel=1e-12)
    assert (row.image_size, row.examples) == ((16, 32), 104)


def test_each_run_is_asked_for_its_own_data(tiny):
    sweep = tiny('sweep("data.subset", ["100", "50"])')
    rows = describe_sweep(sweep, lambda settings: DataSize(int(settings.data.subset), 7))
    assert [row.examples for row in rows] == [100, 50]
    assert [row.steps for row in rows] == [30, 15]
    assert rows[0].exaflops == 2 * rows[1].exaflops


@pytest.mark.parametrize(
    ("points", "name"),
    [
        ("product([])", "mu/8"),
        ('sweep("model.depth", [3])', "mu/8, depth 3"),
        (
            'table(("model.variant", "model.trunk_units", "model.trunk_width"), [("R26x1", (1, 2), 2)])',
            "R26x1, units 1-2, trunk width 2",
        ),
        ('table(("model.width", "model.heads", "model.mlp_dim"), [(16, 4, 8)])', "mu/8, width 16, MLP 8, heads 4"),
    ],
)
def test_models_of_another_shape_than_their_variant_say_so(points, name, tiny):
    (row,) = describe_sweep(tiny(points), lambda settings: DataSize(104, 7))
    assert row.model == name


def unknown(settings):
    raise BadSetting("config.data.name", settings.data.name, "has no known size")


@pytest.mark.parametrize(
    ("points", "size", "message"),
    [
        ('sweep("data.image_size", [(4, 4)])', lambda s: DataSize(10, 7), "run image_size4x4_.*image_size = "),
        ('sweep("train.duration", ["0 steps"])', lambda s: DataSize(10, 7), "run 0steps_.*needs at least one step"),
        ('sweep("train.duration", ["10%"])', lambda s: DataSize(10, 7), "config.train.duration = '10%'"),
        ("product([])", unknown, "run base_.*: config.data.name = 'synthetic': has no known size"),
    ],
)
def test_a_run_that_cannot_be_counted_is_named(points, size, message, tiny):
    with pytest.raises(UserError, match=message):
        describe_sweep(tiny(points), size)
