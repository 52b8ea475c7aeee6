"""The verbs around recipes: listing, few-shot, evaluators by name, fine-tuning grids."""

import json

import pytest


def test_recipes_are_listed_with_their_numbers(call):
    status, out, _ = call("recipes")
    assert status == 0
    assert "configs/pretrain.py  Pre-training as in table 3" in out
    line = next(line for line in out.splitlines() if line.strip().startswith("H/14,jft"))
    assert "88.55 %" in line
    assert "2,500 TPUv3 core-days" in line


def test_recipes_can_be_filtered_and_read_by_programs(call):
    found = json.loads(call("recipes", "finetune.py:B/16,cifar", "--json").out)
    assert [recipe["argument"] for recipe in found] == ["B/16,cifar10", "B/16,cifar100"]
    assert found[0]["name"] == "configs/finetune.py:B/16,cifar10"
    status, _, err = call("recipes", "nonsense")
    assert status == 2
    assert "no recipe has 'nonsense' in its name" in err


def test_few_shot_on_the_data_set_of_the_run(call, trained):
    status, out, _ = call("fewshot", f"--checkpoint={trained}", "--shots=1,20", "--seeds=2", "--json")
    assert status == 0
    numbers = json.loads(out)["evaluations"]["digits"]
    assert 0.1 < numbers["1_shot"] <= numbers["20_shot"] <= 1
    assert numbers["examples"] == 360


def test_evaluators_by_name_and_kind(call, trained, digits_dir):
    where = f"--config.data.data_dir={digits_dir}"
    flags = ["--on=knn:digits,linear:digits", where, "--config.evaluators.knn_digits.neighbours=1", "--json"]
    status, out, _ = call("evaluate", f"--checkpoint={trained}", *flags)
    assert status == 0
    found = json.loads(out)["evaluations"]
    assert set(found) == {"knn_digits", "linear_digits"}
    assert all(0.3 < numbers["accuracy"] <= 1 for numbers in found.values())
    nearest = json.loads(call("fewshot", f"--checkpoint={trained}", "--kind=knn", "--neighbours=1", "--json").out)
    assert nearest["evaluations"]["digits"]["accuracy"] == found["knn_digits"]["accuracy"]
    text = call("evaluate", f"--checkpoint={trained}", "--on=knn:digits", where).out
    assert "knn_digits  knn accuracy" in text


def test_evaluators_of_a_run_are_recorded_and_found_again(call, tiny, tmp_path):
    added = [
        "--config.evaluators.shots.kind=fewshot",
        "--config.evaluators.shots.shots=(5,)",
        "--config.evaluators.shots.every=2 steps",
        "--config.evaluators.held_out.split=train[:100]",
        "--config.evaluators.held_out.every=4 steps",
    ]
    assert call("train", *tiny, *added, f"--workdir={tmp_path / 'w'}").status == 0
    records = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    shots = {r["step"]: r["shots/5_shot"] for r in records if "shots/5_shot" in r}
    assert sorted(shots) == [2, 4]
    assert [r["step"] for r in records if "held_out/accuracy" in r] == [4]
    found = json.loads(call("evaluate", f"--checkpoint={tmp_path / 'w'}", "--on=all", "--json").out)["evaluations"]
    assert found["shots"]["5_shot"] == shots[4]
    assert found["held_out"]["examples"] == 100


def test_another_task_replaces_the_data_set_of_the_run(call, trained, digits_dir):
    flags = ["--config.data.task=digits", "--config.data.stage=dev", f"--config.data.data_dir={digits_dir}", "--json"]
    found = json.loads(call("evaluate", f"--checkpoint={trained}", *flags).out)
    assert found["split"] == "train[80%:]"
    assert found["examples"] == 287


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["evaluate", "--on=few:digits"], "kind = 'few': did you mean \"fewshot\"?"),
        (["evaluate", "--on=digitz"], "task = 'digitz': not in the catalog; did you mean \"digits\"?"),
        (["evaluate", "--on=digits", "--split=test"], "--split goes without --on"),
        (["fewshot", "--shots=1,x"], "--shots = '1,x': write numbers (int) joined by commas"),
        (["fewshot", "--kind=linear", "--l2=1,2"], "validation = '': l2 names several strengths"),
        (["evaluate", "--config.evaluators.x.kidn=knn"], 'unknown key; did you mean "kind"?'),
    ],
)
def test_bad_input_is_named(argv, expected, call, trained):
    status, _, err = call(argv[0], f"--checkpoint={trained}", *argv[1:])
    assert status == 2
    assert expected in err.splitlines()[-1]


GRID = ["--config.checkpoint.every=100%", "--config.evaluate.every=100%", "--config.train.duration=4 steps"]


@pytest.mark.long
def test_a_grid_chooses_and_reports(call, tiny, digits_dir, tmp_path):
    where = ["--config.data.task=digits", f"--workdir={tmp_path / 'g'}"]
    flags = [*tiny, *GRID, *where, "--learning_rates=1e-4,1e-2", "--seeds=1"]
    dry = call("finetune-grid", *flags, "--dry_run")
    assert dry.status == 0
    assert "3 runs" in dry.out
    assert not (tmp_path / "g").exists()
    found = json.loads(call("finetune-grid", *flags, "--json").out)["tasks"]["digits"]
    assert set(found["dev"]) == {"lr_0.0001_4_steps", "lr_0.01_4_steps"}
    best = max(found["dev"], key=found["dev"].get)
    assert f"lr_{found['chosen']['learning_rate']:g}_4_steps" == best
    assert found["test"]["eval/examples"]["mean"] == 360
    text = call("finetune-grid", *flags).out  # nothing is run again
    assert "lr_0.01_4_steps" in text
    assert "<- chosen" in text
    assert "over 1 seeds" in text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--seeds=0"], "--seeds=0: must be at least 1"),
        (["--dev=train"], "--dev and --dev_train belong together"),
        (["--tasks=digits"], "--tasks: write {task} in --config"),
        (["--config.data.task=digits", "--learning_rates=a"], "--learning_rates = 'a': write numbers"),
        ([], "config.data.task is empty: give --dev_train and --dev"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(flags, expected, call, tiny, tmp_path):
    status, _, err = call("finetune-grid", *tiny, f"--workdir={tmp_path / 'g'}", *flags)
    assert status == 2
    assert expected in err
    assert not (tmp_path / "g").exists()
