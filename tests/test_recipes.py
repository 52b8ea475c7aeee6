"""Arguments and tables of the shipped configs, and every recipe: resolved, built, and trained for two steps."""

import dataclasses
import math
import re

import jax
import pytest

from vit_jax import data
from vit_jax.config_files import SHIPPED, load_config, load_settings
from vit_jax.errors import UserError
from vit_jax.models import Model
from vit_jax.recipes import list_recipes, parse_argument, read_recipes
from vit_jax.settings import to_dict
from vit_jax.train import RunSettings, make_model, make_schedule, preflight, train
from vit_jax.train.spans import in_steps

RECIPES = {recipe.name: recipe for recipe in list_recipes()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B/16,jft", {"model": "B/16", "dataset": "jft", "epochs": 7, "reg": False}),
        (" B/16 , jft , epochs=14 , reg ", {"model": "B/16", "dataset": "jft", "epochs": 14, "reg": True}),
    ],
)
def test_an_argument_is_read(text, expected):
    assert parse_argument(text, "model", "dataset", epochs=7, reg=False) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("B/16", "needs <model>, <dataset>"),
        ("epochs=3,jft", "needs <model>, <dataset>"),
        ("B/16,jft,epoch=3", 'unknown option epoch; did you mean "epochs"?'),
        ("B/16,jft,epochs", "write epochs=<value>"),
        ("B/16,jft,epochs=x", "epochs=x must be int"),
    ],
)
def test_what_an_argument_cannot_be_is_said(text, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_argument(text, "model", "dataset", epochs=7, reg=False)


def test_every_config_but_the_users_own_promises_something():
    """Docstrings hold the command and the table; `folder.py` has the user's data and no published number."""
    files = {path.name for path in SHIPPED.glob("*.py")} - {"__init__.py"}
    assert {recipe.config.removeprefix("configs/") for recipe in RECIPES.values()} == files - {"folder.py"}
    for recipe in RECIPES.values():
        assert recipe.published
        assert recipe.source
        assert recipe.cost
    for path in SHIPPED.glob("[!_]*.py"):
        assert f"vit_jax train --config=configs/{path.name}" in path.read_text(encoding="utf-8")


def test_every_row_of_the_papers_table_3_is_there():
    """20 rows of models and data sets, some of them with two numbers of epochs."""
    jft = {
        *("B/32 7", "B/16 7", "L/32 7", "L/16 7", "L/16 14", "H/14 14", "R50x1 7", "R50x2 7", "R101x1 7", "R152x1 7"),
        *("R152x2 7", "R50+B/32 7", "R50+B/16 7", "R50+L/32 7", "R50+L/16 7", "R50+L/16 14"),
    }
    wanted = {f"{row} jft" for row in jft}
    wanted |= {f"{model} 90 imagenet21k" for model in ("B/32", "B/16", "L/32", "L/16")} | {"L/16 30 imagenet21k"}
    wanted |= {f"{model} 300 imagenet2012" for model in ("B/32", "B/16", "L/32", "L/16")}
    found = set()
    for name in RECIPES:
        if name.startswith("configs/pretrain.py"):
            settings = load_settings(RunSettings, name)
            epochs = settings.train.duration.removesuffix(" epochs")
            found.add(f"{settings.model.variant} {epochs} {settings.data.task}")
    assert wanted <= found


@pytest.mark.parametrize(
    ("model", "dataset", "rate", "decay", "dropout", "schedule", "clip"),
    [
        ("B/16", "jft", 8e-4, 0.1, 0.0, "linear", 0),
        ("L/32", "jft", 6e-4, 0.1, 0.0, "linear", 0),
        ("L/16", "jft", 4e-4, 0.1, 0.0, "linear", 0),
        ("H/14", "jft", 3e-4, 0.1, 0.0, "linear", 0),
        ("R50x2", "jft", 1e-3, 0.1, 0.0, "linear", 0),
        ("R101x1", "jft", 8e-4, 0.1, 0.0, "linear", 0),
        ("R152x2", "jft", 6e-4, 0.1, 0.0, "linear", 0),
        ("R50+L/32", "jft", 2e-4, 0.1, 0.0, "linear", 0),
        ("R50+L/16", "jft", 4e-4, 0.1, 0.0, "linear", 0),
        ("L/16", "imagenet21k", 1e-3, 0.03, 0.1, "linear", 0),
        ("B/32", "imagenet2012", 3e-3, 0.3, 0.1, "cosine", 1),
    ],
)
def test_the_numbers_of_table_3(model, dataset, rate, decay, dropout, schedule, clip):
    found = load_settings(RunSettings, f"configs/pretrain.py:{model},{dataset}")
    assert found.schedule.learning_rate == rate
    assert found.schedule.name == schedule
    assert found.optimizer.weight_decay == decay
    assert found.optimizer.clip_norm == clip
    assert found.model.dropout == dropout
    assert (found.optimizer.name, found.optimizer.beta1, found.optimizer.beta2) == ("adamw", 0.9, 0.999)
    assert (found.train.batch_size, found.train.loss, found.model.head_bias) == (4096, "sigmoid", -10)
    assert found.data.height_width == (224, 224)


def test_the_numbers_of_table_4():
    steps = {"imagenet2012": 20_000, "cifar10": 10_000, "cifar100": 10_000, "oxford_iiit_pet": 500}
    for task, number in {**steps, "oxford_flowers102": 500, "vtab/dmlab": 2_500}.items():
        found = load_settings(RunSettings, f"configs/finetune.py:B/16,{task}")
        assert found.train.duration == f"{number} steps"
        assert (found.optimizer.name, found.optimizer.momentum, found.optimizer.weight_decay) == ("sgd", 0.9, 0.0)
        assert (found.train.batch_size, found.optimizer.clip_norm, found.schedule.name) == (512, 1.0, "cosine")
        assert found.data.height_width == (384, 384)
        assert found.init.head == "reset"
    special = load_settings(RunSettings, "configs/finetune.py:H/14,imagenet2012,table2")
    assert (special.data.height_width, special.train.ema_decay) == ((518, 518), 0.9999)


@pytest.mark.parametrize(
    ("recipe", "examples", "steps"),
    [
        ("B/16,jft", 302_982_257, 517_791),
        ("H/14,jft", 302_982_257, 1_035_583),
        ("B/16,imagenet2012", 1_281_167, 93_835),
    ],
)
def test_the_learning_rate_over_a_run_of_table_3(recipe, examples, steps):
    """Warm-up times the decay after it; the published numbers of steps."""
    settings = load_settings(RunSettings, f"configs/pretrain.py:{recipe}")
    assert data.catalog.get(settings.data.task).examples == examples
    total = in_steps(settings, settings.train.duration, "", examples, None)
    assert total == pytest.approx(steps, abs=1)
    warmup = in_steps(settings, settings.schedule.warmup, "", examples, total)
    assert warmup == 10_000
    curve, base = make_schedule(settings.schedule, total, warmup, 1, 0), settings.schedule.learning_rate
    for step in (0, 2_500, 10_000, 50_000, total // 2, total):
        progress = max(0, step - 10_000) / (total - 10_000)
        linear = base + progress * (1e-5 - base)
        cosine = base * (1 + math.cos(math.pi * progress)) / 2
        decay = linear if settings.schedule.name == "linear" else cosine
        assert float(curve(step)) == pytest.approx(decay * min(1, step / 10_000), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("argument", "steps", "mixup", "size"),
    [
        ("R50x1,oxford_flowers102", 500, 0.0, 384),
        ("R50x1,cifar10", 10_000, 0.1, 128),
        ("R152x4,imagenet2012", 20_000, 0.1, 480),
    ],
)
def test_the_hyperrule(argument, steps, mixup, size):
    found = load_settings(RunSettings, f"configs/bit_hyperrule.py:{argument}")
    assert (found.train.duration, found.train.mixup, found.data.image_size) == (f"{steps} steps", mixup, (size, size))
    assert (found.schedule.name, found.schedule.learning_rate) == ("staircase", 0.003)


@pytest.mark.parametrize("argument", ["B/16", "B/17,jft", "B/16,cifar10", "B/16,jft,epochs=many"])
def test_an_impossible_argument_is_one_line(argument):
    with pytest.raises(UserError, match=rf"pretrain.py does not accept '{argument}'"):
        load_config(f"configs/pretrain.py:{argument}")


def test_a_table_that_is_no_table_is_an_error(tmp_path):
    path = tmp_path / "x.py"
    path.write_text('"""Title.\n\n| a | b |\n"""')
    with pytest.raises(ValueError, match="the table must begin with"):
        read_recipes(path)
    path.write_text('"""Title."""')
    assert read_recipes(path) == []


def models():
    """{one recipe: ...} for every model with its settings, so that each is built once."""
    found = {}
    for name in RECIPES:
        settings = load_settings(RunSettings, name)
        numbers = {"dropout": 0.0, "stochastic_depth": 0.0, "head_bias": 0.0}
        found.setdefault((dataclasses.replace(settings.model, **numbers), settings.data.image_size), name)
    return list(found.values())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_resolved(name):
    settings = load_settings(RunSettings, name)
    assert settings.evaluate.split
    assert settings.data.train_split
    assert settings.schedule.learning_rate > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", models())
def test_every_model_is_initialised_in_full_size(name):
    """Abstractly: no array is made."""
    settings = load_settings(RunSettings, name)
    classes = data.catalog.get(settings.data.task).classes if settings.data.task else 10
    assert make_model(settings, classes).parameter_count > 1e5


def preprocessing():
    """All pre-processing strings, each once."""
    found = [load_settings(RunSettings, name).data for name in RECIPES]
    return sorted({text for about in found for text in (about.train_preprocess, about.eval_preprocess)})


@pytest.mark.needs_tf
@pytest.mark.parametrize("text", preprocessing())
def test_every_pre_processing_can_be_compiled(text):
    pytest.importorskip("tensorflow")
    data.check_preprocess(data.DataSettings(image_size=(48, 48), train_preprocess=text, eval_preprocess=text))


def small(settings: RunSettings) -> RunSettings:
    """The same recipe with a toy of its model on synthetic images, two steps of 16."""
    model, resolved = settings.model, settings.model.resolved
    changes = {"dtype": "float32", "remat": "none"}
    if resolved.encoder:
        changes |= {"width": 32, "depth": 2, "mlp_dim": 64, "heads": 2}
    if resolved.trunk:
        changes |= {"trunk_units": (1, 1), "trunk_width": 1}  # two stages, so that the image can be small
    model = dataclasses.replace(model, **changes)
    stride = Model(model, (1024, 1024), 3, 10).stride
    return dataclasses.replace(
        settings,
        model=model,
        init=dataclasses.replace(settings.init, checkpoint=""),
        data=dataclasses.replace(settings.data, name="synthetic", image_size=(2 * stride, 2 * stride)),
        train=dataclasses.replace(settings.train, batch_size=16, duration="2 steps"),
        schedule=dataclasses.replace(settings.schedule, warmup="1 step", cooldown="0 steps", boundaries=()),
        evaluate=dataclasses.replace(settings.evaluate, batch_size=256),
        log=dataclasses.replace(settings.log, tensorboard=False),
    )


def _two_steps(name, folder):
    result = train(small(load_settings(RunSettings, name)), folder / "w")
    assert result.step == 2
    assert 0 < result.evaluation["loss"] < 100


def _without_numbers(found):
    if isinstance(found, dict):
        return tuple((key, _without_numbers(value)) for key, value in found.items())
    if isinstance(found, (list, tuple)):
        return tuple(map(_without_numbers, found))
    return found > 0 if isinstance(found, float) else found


def programs():
    """One recipe for each of what is run when they are made small: many differ by numbers, names and data alone."""
    found = {}
    for name in RECIPES:
        about = to_dict(small(load_settings(RunSettings, name)))
        about["model"] |= {"variant": "", "patch": 0}
        about["data"] = about["init"] = ()
        found.setdefault(_without_numbers(about), name)
    return list(found.values())


FIRST = {recipe.config: name for name, recipe in reversed(RECIPES.items())}.values()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "digits" in name else pytest.mark.long) for name in FIRST]
)
def test_the_first_recipe_of_each_config_trains(name, tmp_path):
    _two_steps(name, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(programs()) - set(FIRST)))
def test_all_other_programs_of_recipes_train_too(name, tmp_path):
    _two_steps(name, tmp_path)


ONE_FIELD = {
    "model": "model.variant=S/32",
    "data set by task": "data.task=cifar100",
    "resolution": "data.image_size=(96,128)",
    "batch": "train.batch_size=64",
    "steps": "train.duration=50 steps",
    "optimizer": "optimizer.name=lion",
    "precision": "model.dtype=float32",
    "mesh": "mesh.tensor=2",
}


@pytest.mark.parametrize("change", ONE_FIELD.values(), ids=ONE_FIELD)
@pytest.mark.parametrize(
    "config",
    [
        "pretrain.py:B/16,imagenet21k",
        "augreg.py:B/32,imagenet2012",
        "deit3.py:S/16,imagenet2012",
        "vit_g.py:g/14",
        "vit_s16_i1k.py",
        "finetune.py:B/16,oxford_iiit_pet",
        "masked_patches.py:B/32,imagenet2012",
    ],
)
def test_one_field_of_a_recipe_can_be_changed_alone(config, change):
    """The rest follows or does not mind: the run as a whole is still possible. Only the images are made up."""
    settings = load_settings(RunSettings, f"configs/{config}", [f"--config.{change}"])
    settings = dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, name="synthetic"),
        init=dataclasses.replace(settings.init, checkpoint=""),
    )
    plan = preflight(settings)
    assert plan.steps.total > 0
    assert len(jax.tree.leaves(plan.state)) > 10
