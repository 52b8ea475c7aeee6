"""What the verbs do and print when all is well, on the digits with a tiny model."""

import json
import shutil

import numpy as np
import pytest

from vit_jax.cli.arguments import CONFIG_HELP
from vit_jax.config_files import load_settings
from vit_jax.settings import build, to_dict
from vit_jax.train import METRICS_FILE, RunSettings, read_metrics


def numbers(out):
    """The values of the human report of `evaluate`, by name."""
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    return dict(lines)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The same picture as PNG and as JPEG."""
    tf = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("pictures")
    image = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16, np.ones((4, 4), np.uint8))[..., None]
    (folder / "a.png").write_bytes(tf.io.encode_png(image).numpy())
    (folder / "b.jpg").write_bytes(tf.io.encode_jpeg(image, quality=100).numpy())
    return [folder / "a.png", folder / "b.jpg"]


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """Two splits of two classes of dark and bright PNGs."""
    tf = pytest.importorskip("tensorflow")
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for name, grey in (("bright", 200), ("dark", 50)):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                image = np.full((24, 20, 3), grey + i, np.uint8)
                (root / split / name / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    return root


def test_prepare_says_what_each_split_holds(call, tmp_path):
    status, out, _ = call("prepare", "digits", f"--data_dir={tmp_path}")
    assert status == 0
    assert out.endswith("digits: train 1,437, test 360\n")
    assert (tmp_path / "digits" / "1.0.0").is_dir()


def test_train_again_after_the_end_says_so_without_another_step(call, trained, tiny):
    before = (trained / METRICS_FILE).read_bytes()
    status, out, err = call("train", *tiny, f"--workdir={trained}")
    assert status == 0
    assert out == f"done after 4 steps; weights in {trained}/export/model.npz\n"
    assert "resuming from step 4" in err
    assert (trained / METRICS_FILE).read_bytes() == before


def test_evaluate_repeats_what_training_wrote(call, trained):
    status, out, _ = call("evaluate", f"--checkpoint={trained}", "--json")
    found = json.loads(out)
    wrote = next(r for r in reversed(read_metrics(trained / METRICS_FILE)) if "eval/loss" in r)
    assert status == 0
    assert found["checkpoint"] == f"{trained}/checkpoints/4"
    assert (found["step"], found["averaged"], found["data"], found["split"]) == (4, True, "digits", "test")
    assert found["examples"] == 360
    assert wrote["step"] == 4
    for name in ("accuracy", "top5", "loss"):
        assert found[name] == pytest.approx(wrote[f"eval/{name}"], abs=1e-6)


def test_evaluate_says_the_same_to_people_and_to_programs(call, trained):
    found = json.loads(call("evaluate", f"--checkpoint={trained}", "--json").out)
    out = call("evaluate", f"--checkpoint={trained}").out
    assert f"{trained}/checkpoints/4 (step 4, averaged)" in out
    assert "digits [test], 360 images" in out
    expected = {"accuracy": f"{found['accuracy']:.2%}", "top5": f"{found['top5']:.2%}", "loss": f"{found['loss']:.4f}"}
    assert numbers(out) == expected


@pytest.mark.parametrize(
    "change",
    [
        ["--config.mesh.tensor=2"],
        ["--config.mesh.fsdp=4", "--config.mesh.tensor=2"],
        ["--batch_size=104"],
    ],
)
def test_evaluate_does_not_depend_on_mesh_or_batch(change, call, trained):
    usual = json.loads(call("evaluate", f"--checkpoint={trained}", "--json").out)
    other = json.loads(call("evaluate", f"--checkpoint={trained}", "--json", *change).out)
    assert other == pytest.approx(usual, abs=1e-5)


def test_the_exported_file_evaluates_like_the_workdir(call, trained, tmp_path):
    status, out, _ = call("export", f"--checkpoint={trained}", f"--output={tmp_path / 'new' / 'vit.npz'}")
    assert status == 0
    assert out.splitlines() == [f"{tmp_path}/new/vit.npz", f"{tmp_path}/new/vit.json"]
    usual = json.loads(call("evaluate", f"--checkpoint={trained}", "--json").out)
    other = json.loads(call("evaluate", f"--checkpoint={tmp_path / 'new' / 'vit.npz'}", "--json").out)
    for name in ("accuracy", "top5", "loss", "examples", "step"):
        assert other[name] == pytest.approx(usual[name], abs=1e-6)


def test_another_split_and_another_step_can_be_evaluated(call, trained):
    found = json.loads(
        call("evaluate", f"--checkpoint={trained}", "--step=2", "--split=train[:100]+test[:50]", "--json").out
    )
    assert (found["step"], found["split"], found["examples"]) == (2, "train[:100]+test[:50]", 150)


def test_a_single_checkpoint_can_be_given(call, trained):
    found = json.loads(call("evaluate", f"--checkpoint={trained}/checkpoints/2", "--json").out)
    assert found["step"] == 2


def test_predict_says_the_same_to_people_and_to_programs(call, trained, pictures):
    status, out, _ = call("predict", f"--checkpoint={trained}", *pictures, "--top=3")
    records = [
        json.loads(s)
        for s in call("predict", f"--checkpoint={trained}", *pictures, "--top=3", "--json").out.splitlines()
    ]
    assert status == 0
    assert [r["image"] for r in records] == [str(p) for p in pictures]
    expected = []
    for record in records:
        shown = [f"  {p['label']}  {p['probability']:7.2%}" for p in record["predictions"]]
        assert len(shown) == 3
        expected += [record["image"], *shown]
    assert out.splitlines() == expected


def test_predictions_of_all_classes_sum_to_one_with_the_best_first(call, trained, pictures):
    record = json.loads(call("predict", f"--checkpoint={trained}", pictures[0], "--top=99", "--json").out)
    probabilities = [p["probability"] for p in record["predictions"]]
    assert sorted(p["label"] for p in record["predictions"]) == [str(i) for i in range(10)]
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert probabilities == sorted(probabilities, reverse=True)


def test_png_and_jpeg_of_one_picture_are_predicted_alike(call, trained, pictures):
    png, jpg = (
        {p["label"]: p["probability"] for p in json.loads(line)["predictions"]}
        for line in call("predict", f"--checkpoint={trained}", *pictures, "--top=10", "--json").out.splitlines()
    )
    assert jpg == pytest.approx(png, abs=1e-3)


def test_dry_run_prints_the_config_and_leaves_nothing(call, tiny, tmp_path):
    status, out, description = call("train", *tiny, f"--workdir={tmp_path / 'w'}", "--dry_run")
    config = json.loads(out)
    assert status == 0
    assert not (tmp_path / "w").exists()
    assert config == to_dict(build(RunSettings, config))
    assert config["train"]["duration"] == "4 steps"
    for text in ("8 cpu devices", "mu/2, ", "1,437 images, 10 classes", "4 steps", "batch 16"):
        assert text in description


def test_another_variant_is_one_flag(call, tiny, tmp_path):
    found = call("train", *tiny, f"--workdir={tmp_path / 'w'}", "--dry_run", "--config.model.variant=S/4")
    assert json.loads(found.out)["model"]["variant"] == "S/4"
    assert "S/4, 21," in found.err  # 12 blocks of 1,774,464 parameters, and a little more


KEYS = {
    "seed=7": ("seed", 7),
    "model.depth=3": ("model", "depth", 3),
    "model.scan=False": ("model", "scan", False),
    "model.dropout=0.1": ("model", "dropout", 0.1),
    "data.prefetch=5": ("data", "prefetch", 5),
    "data.image_size=(16,8)": ("data", "image_size", [16, 8]),
    "mesh.fsdp=2": ("mesh", "fsdp", 2),
    "train.micro_batches=2": ("train", "micro_batches", 2),
    "train.ema_decay=0": ("train", "ema_decay", 0.0),
    "optimizer.beta2=0.95": ("optimizer", "beta2", 0.95),
    "optimizer.clip_norm=2": ("optimizer", "clip_norm", 2.0),
    "optimizer.weight_decay_rules=(('.*',0.5),)": ("optimizer", "weight_decay_rules", [[".*", 0.5]]),
    "schedule.timescale=3 epochs": ("schedule", "timescale", "3 epochs"),
    "checkpoint.keep_last=9": ("checkpoint", "keep_last", 9),
    "evaluate.batch_size=80": ("evaluate", "batch_size", 80),
    "log.profile_steps=(2,3)": ("log", "profile_steps", [2, 3]),
}


@pytest.mark.parametrize("flag", KEYS)
def test_a_key_can_be_set_whether_or_not_the_file_has_it(flag, call, tiny, tmp_path):
    *path, expected = KEYS[flag]
    config = json.loads(call("train", *tiny, f"--workdir={tmp_path / 'w'}", "--dry_run", f"--config.{flag}").out)
    for key in path:
        config = config[key]
    assert config == expected


def test_a_boolean_key_also_takes_the_short_form(call, tiny, tmp_path):
    out = call("train", *tiny, f"--workdir={tmp_path / 'w'}", "--dry_run", "--noconfig.model.scan").out
    assert json.loads(out)["model"]["scan"] is False


def test_the_help_lists_every_group_of_the_config():
    listed = " ".join(CONFIG_HELP.split()).partition("groups: ")[2].partition(";")[0].split(", ")
    assert listed == list(to_dict(RunSettings()))


def test_a_changed_config_is_accepted_on_request_and_the_old_one_kept(call, tiny, trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    flags = ["--config.train.label_smoothing=0.3", "--accept_config_change"]
    assert call("train", *tiny, f"--workdir={copy}", *flags).status == 0
    assert json.loads((copy / "config.json").read_text())["train"]["label_smoothing"] == 0.3
    assert json.loads((copy / "config.0.json").read_text())["train"]["label_smoothing"] == 0.1


@pytest.mark.parametrize("config", ["digits.py", "folder.py:{folder}"])
def test_the_configs_that_are_no_recipes_resolve(config, image_folder):
    settings = load_settings(RunSettings, "configs/" + config.format(folder=image_folder))
    assert build(RunSettings, to_dict(settings)) == settings


@pytest.mark.slow
def test_the_folder_config_trains_on_a_folder_of_pictures(call, image_folder, tmp_path):
    small = ["model.variant=mu/8", "data.image_size=(16,16)", "train.batch_size=8", "train.duration=2 steps"]
    flags = [
        f"--config.{text}" for text in [*small, "model.remat=none", "log.tensorboard=False", "evaluate.every=2 steps"]
    ]
    workdir = tmp_path / "w"
    status, out, err = call("train", f"--config=configs/folder.py:{image_folder}", f"--workdir={workdir}", *flags)
    assert status == 0
    assert out.startswith("done after 2 steps")
    assert "folder [train], 8 images, 2 classes" in err
    assert json.loads((workdir / "export" / "model.json").read_text())["label_names"] == ["bright", "dark"]
