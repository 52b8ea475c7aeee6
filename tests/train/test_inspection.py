"""Pictures during training: when, of which parameters, and what is refused before the run starts."""

import json

import numpy as np
import pytest

from vit_jax.checkpoint import load
from vit_jax.errors import BadSetting
from vit_jax.inspect import attention_statistics, spread_images
from vit_jax.models import Model
from vit_jax.settings import build
from vit_jax.train import RunSettings, open_split, preflight, train


def pages(workdir):
    return sorted(path.parent.name for path in (workdir / "inspect").glob("*/index.html"))


def numbers(workdir, step):
    return json.loads((workdir / "inspect" / f"{step:09d}" / "numbers.json").read_text())


@pytest.mark.long
def test_pictures_are_of_the_average_at_their_steps_and_compiled_once(tiny_run, tmp_path, monkeypatch):
    traced, apply = [], Model.apply
    monkeypatch.setattr(Model, "apply", lambda *a, **named: traced.append(named.get("attention")) or apply(*a, **named))
    about = {"every": "2 steps", "images": 5, "only": ("filters", "distance")}
    settings = tiny_run(
        inspect=about, train={"ema_decay": 0.9}, mesh={"fsdp": 2, "tensor": 2}, checkpoint={"every": "2 steps"}
    )
    train(settings, tmp_path / "w")
    assert sum(function is not None for function in traced) == 1
    assert pages(tmp_path / "w") == ["000000002", "000000004", "000000006"]
    images, names = spread_images(open_split(settings, "test", "split"), 5)
    assert (len(images), len(names)) == (5, 5)
    for step in (4, 6):
        weights = load(tmp_path / "w", step=step)  # the average, where there is one
        expected = attention_statistics(weights.metadata.model, weights.params, images)
        found = numbers(tmp_path / "w", step)
        assert (found["step"], found["pictures"][0]) == (step, "filters.png")
        np.testing.assert_allclose(found["distance"]["pixels"], expected.distance, rtol=1e-5)


def test_pictures_that_were_missed_are_made_up_for(tiny_run, tmp_path):
    settings = tiny_run(
        inspect={"every": "9 steps", "only": ("filters",)}, train={"duration": "3 steps"}, evaluate={"split": ""}
    )
    train(settings, tmp_path / "w")
    page = tmp_path / "w" / "inspect" / "000000003" / "index.html"
    page.unlink()
    train(settings, tmp_path / "w")
    assert page.exists()
    before = page.stat().st_mtime_ns
    train(settings, tmp_path / "w")
    assert page.stat().st_mtime_ns == before


def test_a_run_draws_nothing_unless_asked_to(tiny_run, tmp_path):
    assert preflight(tiny_run()).inspection is None
    only_filters = preflight(tiny_run(inspect={"every": "10%", "only": ("filters",)})).inspection
    assert (only_filters.dataset, only_filters.every) == (None, 1)
    without_test = preflight(tiny_run(inspect={"every": "50%"}, evaluate={"split": ""}))
    assert without_test.inspection.dataset.size == without_test.train_data.size


@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        ({"every": "often"}, r"config\.inspect\.every = 'often'"),
        ({"images": 0}, r"config\.inspect\.images = 0: must be at least 1"),
        ({"only": ("rolout",)}, r"config\.inspect\.only = 'rolout': .*rollout"),
    ],
)
def test_settings_are_checked(about, complaint):
    with pytest.raises(BadSetting, match=complaint):
        build(RunSettings, {"inspect": about})


def test_pictures_that_the_model_does_not_have_are_refused_before_the_run(tiny_run):
    resnet = {"variant": "R26x1", "trunk_units": (1,)}
    with pytest.raises(BadSetting, match=r"config\.inspect\.only = 'rollout': R26x1 is a ResNet"):
        preflight(tiny_run(model=resnet, inspect={"every": "1 step", "only": ("rollout",)}))
