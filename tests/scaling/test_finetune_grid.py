"""Choosing on held-out images, then training on all: which runs are made, what is chosen, what is reported."""

import dataclasses
import json

import pytest

from vit_jax.errors import BadSetting, Diverged, Stopped
from vit_jax.scaling import Candidate, Splits, finetune_grid
from vit_jax.scaling import finetune_grid as module_function
from vit_jax.train import Result

SPLITS = Splits(("train[:80%]", "train[80%:]"), ("train", "test"))
RATES = [Candidate(0.1, "10 steps"), Candidate(0.2, "10 steps"), Candidate(0.4, "10 steps")]


class Runs:
    """Stands for `train`: remembers what was asked, and answers with an accuracy for each learning rate."""

    def __init__(self, accuracies):
        self.accuracies, self.asked, self.stop_at = accuracies, [], None

    def __call__(self, settings, workdir, **_):
        if len(self.asked) == self.stop_at:
            raise Stopped("by a signal")
        self.asked.append((workdir, settings))
        workdir.mkdir(parents=True)
        value = self.accuracies[settings.schedule.learning_rate]
        if value is None:
            raise Diverged("nan")
        return Result(10, {"eval": {"accuracy": value + settings.seed / 1000}, "real": {"accuracy": 0.5}}, [])


@pytest.fixture
def runs(monkeypatch):
    import sys

    found = Runs({0.1: 0.5, 0.2: 0.7, 0.4: 0.6})
    monkeypatch.setattr(sys.modules[module_function.__module__], "train", found)
    return found


def test_the_best_on_held_out_images_is_trained_on_all(runs, tiny_run, tmp_path):
    settings = tiny_run()
    found = finetune_grid({"a/b": (settings, SPLITS)}, tmp_path, {"a/b": RATES}, seeds=2)["a/b"]
    where = [str(path.relative_to(tmp_path)) for path, _ in runs.asked]
    assert where == [
        *(f"a_b/dev/lr_{rate:g}_10_steps" for rate in (0.1, 0.2, 0.4)),
        *(f"a_b/final/seed_{seed}" for seed in (0, 1)),
    ]
    for path, asked in runs.asked:
        splits = SPLITS.dev if "dev" in str(path) else SPLITS.final
        assert (asked.data.train_split, asked.evaluate.split) == splits
        assert asked.train.duration == "10 steps"
    assert [asked.schedule.learning_rate for _, asked in runs.asked] == [0.1, 0.2, 0.4, 0.2, 0.2]
    assert [asked.seed for _, asked in runs.asked[3:]] == [0, 1]
    assert found.chosen == RATES[1]
    assert found.dev == {"lr_0.1_10_steps": 0.5, "lr_0.2_10_steps": 0.7, "lr_0.4_10_steps": 0.6}
    assert found.test["eval/accuracy"] == [0.7, 0.701]
    assert found.summary()["test"]["eval/accuracy"] == {
        "mean": pytest.approx(0.7005),
        "min": 0.7,
        "max": 0.701,
        "values": [0.7, 0.701],
    }
    assert json.dumps(found.summary())


def test_other_evaluators_wait_for_the_final_runs(runs, tiny_run, tmp_path):
    settings = tiny_run(evaluators={"real": {"task": "imagenet2012_real"}})
    found = finetune_grid({"a": (settings, SPLITS)}, tmp_path, {"a": RATES}, seeds=1)["a"]
    assert [bool(asked.evaluators) for _, asked in runs.asked] == [False, False, False, True]
    assert found.test["real/accuracy"] == [0.5]


def test_a_run_that_diverges_is_not_chosen(runs, tiny_run, tmp_path):
    runs.accuracies[0.2] = None
    found = finetune_grid({"a": (tiny_run(), SPLITS)}, tmp_path, {"a": RATES}, seeds=1)["a"]
    assert found.dev["lr_0.2_10_steps"] == 0
    assert found.chosen == RATES[2]


def test_with_one_candidate_nothing_is_held_out(runs, tiny_run, tmp_path):
    found = finetune_grid({"a": (tiny_run(), SPLITS)}, tmp_path, {"a": RATES[:1]}, seeds=1)["a"]
    assert [path.parent.name for path, _ in runs.asked] == ["final"]
    assert found.dev == {}


def test_a_grid_that_was_stopped_makes_only_what_is_missing(runs, tiny_run, tmp_path):
    tasks, candidates = {"a": (tiny_run(), SPLITS)}, {"a": RATES}
    runs.stop_at = 2
    with pytest.raises(Stopped):
        finetune_grid(tasks, tmp_path, candidates, seeds=2)
    runs.stop_at = None
    found = finetune_grid(tasks, tmp_path, candidates, seeds=2)
    assert len(runs.asked) == len({path for path, _ in runs.asked}) == 5
    again = finetune_grid(tasks, tmp_path, candidates, seeds=2)
    assert (len(runs.asked), again) == (5, found)


def test_one_choice_for_all_tasks_is_the_best_on_average(runs, tiny_run, tmp_path, monkeypatch):
    by_task = {"a": {0.1: 0.9, 0.2: 0.2, 0.4: 0.6}, "b": {0.1: 0.1, 0.2: 0.9, 0.4: 0.6}}

    class PerTask(Runs):
        def __call__(self, settings, workdir, **more):
            self.accuracies = by_task[workdir.relative_to(tmp_path).parts[0]]
            return super().__call__(settings, workdir, **more)

    import sys

    monkeypatch.setattr(sys.modules[module_function.__module__], "train", PerTask({}))
    tasks = {name: (tiny_run(), SPLITS) for name in by_task}
    found = finetune_grid(tasks, tmp_path, dict.fromkeys(tasks, RATES), seeds=1, joint=True)
    assert {name: result.chosen.learning_rate for name, result in found.items()} == {"a": 0.4, "b": 0.4}
    with pytest.raises(BadSetting, match="--joint = True: the tasks have different candidates"):
        finetune_grid(tasks, tmp_path, {"a": RATES, "b": RATES[:2]}, joint=True)


def test_splits_of_the_catalog():
    assert Splits.of_task("cifar10") == Splits(("train[:98%]", "train[98%:]"), ("train", "test"))
    with pytest.raises(BadSetting, match=r"imagenet_v2.*has no images to choose on"):
        Splits.of_task("imagenet_v2")


def test_a_real_grid_of_two_learning_rates(tiny_run, tmp_path):
    """On synthetic images, through the real `train`."""
    candidates = [Candidate(rate, "4 steps") for rate in (1e-3, 1e-2)]
    settings = dataclasses.replace(tiny_run(), evaluators={})
    found = finetune_grid({"synthetic": (settings, SPLITS)}, tmp_path, {"synthetic": candidates}, seeds=1)["synthetic"]
    assert found.chosen in candidates
    assert set(found.dev) == {c.name for c in candidates}
    assert max(found.dev.values()) == found.dev[found.chosen.name]
    for path in ("dev/lr_0.001_4_steps", "final/seed_0"):
        assert (tmp_path / "synthetic" / path / "export" / "model.npz").exists()
