"""Bad input ends with exit status 2 and one line that names the field, the value and the fix; nothing is compiled."""

import io
import json
import pickle
import re
import shutil

import jax
import numpy as np
import pytest

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations():
    """The programs compiled while a test runs."""
    found = []
    jax.random.key(0)  # a trifle of its own that abstract initialisation needs once

    def listen(event, seconds, **_):
        if event == COMPILED:
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def complaint(call, compilations):
    """Runs a command that must be refused, and gives its line without the prefix."""

    def run(verb, *argv, progress=False):
        status, out, err = call(verb, *argv)
        assert status == 2
        assert "Traceback" not in out + err
        *before, line = err.splitlines()
        assert progress or not before
        assert line.startswith(f"vit_jax {verb}: ")
        assert not compilations
        return line.removeprefix(f"vit_jax {verb}: ")

    return run


def check(line, *expected):
    missing = [text for text in expected if text not in line]
    assert not missing, line


TRAIN = {
    "unknown key": ("train.batchsize=3", "config.train.batchsize", "'3'", 'did you mean "batch_size"?'),
    "unknown group": ("trian.batch_size=3", "config.trian", 'did you mean "train"?'),
    "unknown key far from all": ("mesh.qqqq=3", "config.mesh.qqqq", "known: data, fsdp, replica, tensor"),
    "key of a value": ("train.batch_size.x=3", "config.train.batch_size.x", "config.train.batch_size is a value"),
    "whole group": ("mesh=3", "config.mesh", "is a group", "fsdp"),
    "one element of a tuple": ("data.image_size[0]=3", "data.image_size[0]", "write --config.<key>=<value>"),
    "no value": ("train.batch_size", "--config.train.batch_size", "write --config.<key>=<value>"),
    "not a whole number": ("train.batch_size=many", "config.train.batch_size", "'many'", "must be int"),
    "fraction for a whole number": ("train.batch_size=1.5", "config.train.batch_size", "'1.5'", "must be int"),
    "not a boolean": ("model.scan=perhaps", "config.model.scan", "'perhaps'", "must be bool"),
    "not a tuple": ("data.image_size=(8,", "config.data.image_size", "'(8,'", "must be tuple"),
    "wrong type inside a tuple": ("data.image_size=(8,'x')", "config.data.image_size[1]", "'x'", "must be int"),
    "batch and mesh": ("train.batch_size=12", "config.train.batch_size = 12", "multiple of 8", "[8, 16] would work"),
    "batch and micro-batches": ("train.micro_batches=3", "batch_size = 16", "3 micro-batches", "[24] would work"),
    "evaluation batch": ("evaluate.batch_size=9", "config.evaluate.batch_size = 9", "[8, 16] would work"),
    "negative batch": ("train.batch_size=-8", "config.train.batch_size = -8", "at least 1"),
    "mesh and devices": ("mesh.tensor=3", "config.mesh", "tensor 3", "8 devices"),
    "patch and image": ("model.variant=mu/9", "config.data.image_size", "(8, 8)", "no whole patch", "9 pixels a side"),
    "no pooling": ("model.pool=none", "config.model.pool", "'none'", "set token, gap, map or first"),
    "variant without patch": ("model.variant=mu", "config.model.variant", "'mu'", "such as B/16"),
    "unknown variant": ("model.variant=nanno/2", "config.model.variant", 'did you mean "nano"?'),
    "heads and width": ("model.heads=5", "config.model.heads", "5", "divide the width 32"),
    "data type": ("model.dtype=float16", "config.model.dtype", "'float16'", "float32, bfloat16"),
    "missing data set": ("data.name=diggits", "config.data.name", "'diggits'", 'did you mean "digits"?'),
    "unprepared data set": ("data.name=cifar10", "config.data.name", "'cifar10'", "run: vit_jax prepare cifar10"),
    "missing train split": ("data.train_split=dev", "config.data.train_split", "'dev'", "train, test"),
    "missing test split": ("evaluate.split=dev", "config.evaluate.split", "'dev'", "train, test"),
    "empty train split": ("data.train_split=train[:0%]", "config.data.train_split", "holds no examples"),
    "empty test split": ("evaluate.split=test[:0%]", "config.evaluate.split", "holds no examples"),
    "unknown operation": ("data.train_preprocess=decode|resise", "config.data.train_preprocess", '"resize"'),
    "wrong arguments": ("data.eval_preprocess=decode|flip(3)", "config.data.eval_preprocess", "takes no arguments"),
    "no decode": ("data.eval_preprocess=resize", "config.data.eval_preprocess", "start with decode"),
    "no resize": ("data.eval_preprocess=decode", "config.data.eval_preprocess", "end with a resize or crop"),
    "decay rule": ("optimizer.weight_decay_rules=(('(',1.0),)", "weight_decay_rules", "'('", "regular expression"),
    "uncovered parameter": ("optimizer.weight_decay_rules=(('head/.*',1.0),)", "weight_decay_rules", "no rule matches"),
    "long warm-up": ("schedule.warmup=5 steps", "config.schedule.warmup", "'5 steps'", "run of 4"),
    "unreadable duration": ("schedule.warmup=soon", "config.schedule.warmup", "'soon'", "'5000 steps'"),
    "no steps": ("train.duration=0 steps", "config.train.duration", "'0 steps'", "at least one step"),
    "percent of itself": ("train.duration=10%", "config.train.duration", "cannot be a percentage"),
    "negative seed": ("seed=-1", "config.seed = -1", "at least 0"),
    "rate that is no number": ("schedule.learning_rate=nan", "config.schedule.learning_rate = nan", "finite"),
}


@pytest.mark.parametrize("override", TRAIN)
def test_train_refuses(override, complaint, tiny, tmp_path):
    flag, *expected = TRAIN[override]
    check(complaint("train", *tiny, f"--workdir={tmp_path / 'w'}", f"--config.{flag}"), *expected)
    assert not (tmp_path / "w").exists()


CONFIG_FILES = {
    "unknown key": ("c.model.varient = 'S/4'", "config.model.varient", "'S/4'", 'did you mean "variant"?'),
    "unknown group": ("c.modle = ConfigDict()", "config.modle", 'did you mean "model"?'),
    "wrong type": ("c.model.depth = 'deep'", "config.model.depth", "'deep'", "must be int, not str"),
    "value for a group": ("c.train = 3", "config.train = 3", "group of settings"),
    "fails": ("raise RuntimeError('first\\nsecond')", "c.py fails", "RuntimeError: first second"),
    "fails by a wrong key": ("c.nothing.x = 3", "c.py fails", "AttributeError", "nothing"),
    "fails by a wrong type": ("len(3)", "c.py fails", "TypeError", "has no len()"),
}


@pytest.mark.parametrize("case", CONFIG_FILES)
def test_a_config_file_is_refused(case, complaint, tmp_path):
    line, *expected = CONFIG_FILES[case]
    path = tmp_path / "c.py"
    start = "from ml_collections import ConfigDict\ndef get_config():\n    c = ConfigDict({'model': {}})\n"
    path.write_text(f"{start}    {line}\n    return c\n")
    check(complaint("train", f"--config={path}", f"--workdir={tmp_path / 'w'}"), *expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise ValueError('no\\nway')", "ValueError: no way"),
        ("def get_config(:", "SyntaxError"),
        ("import surely_not_installed", "ModuleNotFoundError"),
        ("x = 1", "must define get_config()"),
        ("def get_config(): return {}", "returned a dict, not a ConfigDict"),
        ("def get_config(variant): pass", "needs an argument after ':'"),
    ],
)
def test_a_config_file_without_a_usable_get_config_is_refused(text, expected, complaint, tmp_path):
    path = tmp_path / "c.py"
    path.write_text(text)
    check(complaint("train", f"--config={path}", f"--workdir={tmp_path / 'w'}"), "c.py", expected)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("configs/digit.py", 'did you mean "configs/digits.py"?'),
        ("configs/digits.py:B", "takes no argument; drop ':B'"),
        ("configs/folder.py", "needs an argument after ':'"),
        ("configs/folder.py:/no/such/folder", "config.data.data_dir = '/no/such/folder': no such folder"),
    ],
)
def test_a_config_that_cannot_be_found_or_used_is_refused(config, expected, complaint, tmp_path):
    check(complaint("train", f"--config={config}", f"--workdir={tmp_path / 'w'}"), expected)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["train", "--workdir=w"], "required: --config; see vit_jax train --help"),
        (["train", "--config=c", "--workdir=w", "--dryrun"], "unknown argument '--dryrun'; see vit_jax train --help"),
        (["train", "--config=c", "--workdir=w", "stray"], "unknown argument 'stray'"),
        (["evaluate", "--checkpoint=w", "--step=last"], "--step: invalid int value: 'last'"),
        (["predict", "--checkpoint=w"], "required: IMAGE"),
        (["predict", "--checkpoint=w", "--top=0", "a.png"], "--top=0: must be at least 1"),
        (["export", "--checkpoint=w", "--output=o.npz", "--format=pt"], "--format: invalid choice: 'pt'"),
        (["export", "--checkpoint=w", "--output=o.npz", "--config.seed=1"], "exporting reads no data"),
        (["inspect", "--checkpoint=w"], "required: --output"),
        (["inspect", "--checkpoint=w", "--output=o", "--count=0"], "--count=0: must be at least 1"),
        (["inspect", "--checkpoint=w", "--output=o", "--layers=1,x"], "--layers: '1,x' is not a list of layers"),
        (["inspect", "--checkpoint=w", "--output=o", "--split=test", "--images", "a.png"], "--images or --split, not"),
        (["prepare", "digits", "--config.seed=1"], "unknown argument '--config.seed=1'"),
    ],
)
def test_wrong_flags_are_named(argv, expected, complaint):
    check(complaint(*argv), expected)


def test_an_unknown_verb_is_answered_with_the_nearest(call):
    assert call("trian") == (2, "", "vit_jax: unknown verb 'trian'; did you mean \"train\"?\n")


def test_no_verb_shows_the_usage(call):
    status, out, _ = call()
    assert status == 2
    assert out.startswith("usage: vit_jax <verb>")


def test_an_unknown_data_set_cannot_be_prepared(complaint, tmp_path):
    check(complaint("prepare", "surely_no_set", f"--data_dir={tmp_path}"), "'surely_no_set'", "no such TFDS data set")


def test_train_refuses_the_workdir_of_another_config(complaint, tiny, trained):
    line = complaint("train", *tiny, f"--workdir={trained}", "--config.train.label_smoothing=0.3")
    check(line, str(trained), "config.train.label_smoothing was 0.1 and is 0.3", "--accept_config_change")


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_train_refuses_a_workdir_whose_config_is_damaged(text, complaint, tiny, tmp_path):
    (tmp_path / "config.json").write_text(text)
    check(complaint("train", *tiny, f"--workdir={tmp_path}"), "config.json is not a config", "another --workdir")


def test_train_refuses_a_workdir_that_is_a_file(complaint, tiny, tmp_path):
    (tmp_path / "w").write_text("")
    check(complaint("train", *tiny, f"--workdir={tmp_path / 'w'}"), "cannot be written: File exists")


def test_train_refuses_the_checkpoint_of_another_model(complaint, tiny, trained, tmp_path):
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    line = complaint("train", *tiny, f"--workdir={tmp_path}", "--config.model.width=64", progress=True)
    check(line, "holds another model", "blocks/attn/key/bias is 1x2x16 there and 1x2x32 in this model")


def damage(checkpoint, name):
    """Cuts a file, or the first file of a folder, in half."""
    path = checkpoint / name
    path = min(path.iterdir()) if path.is_dir() else path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the trained workdir that may be damaged."""
    return shutil.copytree(trained, tmp_path / "copy")


def test_too_little_memory_is_one_line(call, trained, monkeypatch):
    monkeypatch.setattr("vit_jax.cli.weights.params_on", lambda *_: jax.numpy.zeros(2**46))
    status, _, err = call("evaluate", f"--checkpoint={trained}")
    assert status == 2
    assert len(err.splitlines()) == 1
    words = "no memory left on the device (Out of memory allocating", "take a smaller batch (config.train.batch_size"
    check(err.removeprefix("vit_jax evaluate: "), *words)


@pytest.mark.parametrize("name", ["metadata/metadata", "ema/_METADATA", "ema/manifest.ocdbt", "ema/d"])
def test_evaluate_refuses_a_truncated_checkpoint(name, complaint, copy):
    damage(copy / "checkpoints" / "4", name)
    check(complaint("evaluate", f"--checkpoint={copy}"), f"{copy}/checkpoints/4 cannot be read")


@pytest.mark.parametrize("name", ["metadata/metadata", "params/d", "opt/manifest.ocdbt"])
def test_train_refuses_a_truncated_checkpoint_and_names_the_one_before(name, complaint, copy, tiny):
    damage(copy / "checkpoints" / "4", name)
    line = complaint("train", *tiny, f"--workdir={copy}", progress=True)
    check(line, f"{copy}/checkpoints/4 cannot be read", "move it away to go on from step 2")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--step=3", "no checkpoint of step 3; it has [2, 4]"),
        ("--split=dev", "--split = 'dev': digits has train, test"),
        ("--split=test[:0%]", "--split = 'test[:0%]': holds no examples"),
        ("--batch_size=12", "--batch_size = 12: must be a multiple of 8"),
        ("--batch_size=0", "--batch_size = 0: must be at least 1"),
        ("--batch_size=-8", "--batch_size = -8: must be at least 1"),
        ("--config.mesh.tensor=3", "config.mesh = "),
        ("--config.model.variant=S/4", "says itself what its model is"),
        ("--config.data.image_size=(16,16)", "the checkpoint fixes it"),
        ("--config.data.nam=digits", 'did you mean "name"?'),
        ("--config.data.data_dir=/no/such", "'digits': is not prepared in /no/such"),
    ],
)
def test_evaluate_refuses(flag, expected, complaint, trained):
    check(complaint("evaluate", f"--checkpoint={trained}", flag), expected)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--only=filter", "--only = 'filter': no such pictures; did you mean \"filters\"?"),
        ("--layers=1,9", "--layers = 9: the encoder's layers are 1 to 1"),
        ("--split=dev", "--split = 'dev': digits has train, test"),
        ("--config.mesh.tensor=3", "config.mesh = "),
        ("--config.model.depth=3", "says itself what its model is"),
    ],
)
def test_inspect_refuses(flag, expected, complaint, trained, tmp_path):
    check(complaint("inspect", f"--checkpoint={trained}", f"--output={tmp_path}", flag), expected)
    assert not list(tmp_path.iterdir())


def test_inspect_leaves_the_files_of_others_alone(complaint, trained, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    line = complaint("inspect", f"--checkpoint={trained}", f"--output={tmp_path}")
    check(line, f"folder '{tmp_path}' holds other files (index.html)", "new folder", "--overwrite")


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export", "inspect"])
def test_a_missing_checkpoint_is_named(verb, complaint, tmp_path):
    more = {"evaluate": [], "predict": ["a.png"], "export": ["--output=o.npz"], "inspect": ["--output=o"]}[verb]
    line = complaint(verb, f"--checkpoint={tmp_path / 'nothing'}", *more)
    check(line, f"'{tmp_path}/nothing' does not exist", "give a workdir")


def test_a_workdir_without_checkpoint_says_so(complaint, tmp_path):
    check(complaint("evaluate", f"--checkpoint={tmp_path}"), str(tmp_path), "no complete checkpoint yet", "train it")


def saved(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


@pytest.fixture
def exported(trained, tmp_path):
    """A copy of the exported weights that may be damaged."""
    return shutil.copytree(trained / "export", tmp_path / "export") / "model.npz"


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-10],
        lambda whole: whole[:5000] + bytes(50) + whole[5050:],
        lambda whole: b"",
        lambda whole: b"garbage" * 100,
        lambda whole: pickle.dumps({"cls": np.zeros(3)}),
        lambda whole: saved(np.savez, cls=np.array([{}], dtype=object)),
        lambda whole: saved(np.save, np.zeros(3)),
    ],
    ids=["half", "without its end", "overwritten", "empty", "garbage", "pickle", "object array", "single array"],
)
def test_evaluate_refuses_a_damaged_npz(change, complaint, exported):
    exported.write_bytes(change(exported.read_bytes()))
    line = complaint("evaluate", f"--checkpoint={exported}")
    check(line, str(exported))
    assert re.search("is truncated or damaged|is empty|is neither an npz|is a pickle|holds pickled|is one array", line)


def test_evaluate_names_the_shapes_of_an_npz_of_another_model(complaint, exported):
    description = exported.with_suffix(".json")
    about = json.loads(description.read_text())
    about["model"]["settings"]["variant"] = "mu/4"
    description.write_text(json.dumps(about))
    line = complaint("evaluate", f"--checkpoint={exported}")
    check(line, "does not fit mu/4", "embedding/kernel is 2x2x3x32, not 4x4x3x32")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is truncated or damaged"),
        ("[]", "a JSON object was expected"),
        ('{"schema_version": 99}', "schema 99"),
        ('{"schema_version": 1}', "lacks part of its description"),
    ],
)
def test_evaluate_refuses_an_npz_without_a_good_description(text, expected, complaint, exported):
    description = exported.with_suffix(".json")
    description.write_text(text)
    check(complaint("evaluate", f"--checkpoint={exported}"), str(description.name), expected)


@pytest.mark.parametrize("flag", ["--image_size=0", "--image_size=8,x", "--image_size=8,8,8"])
def test_a_wrong_image_size_is_named(flag, complaint, exported):
    check(complaint("evaluate", f"--checkpoint={exported}", flag), "--image_size", "pixels or height,width")


def test_an_image_size_without_a_patch_is_named(complaint, exported):
    line = complaint("evaluate", f"--checkpoint={exported}", "--image_size=1")
    check(line, "image_size = (1, 1)", "no whole patch")


def test_settings_of_a_foreign_model_are_checked(complaint, exported):
    exported.with_suffix(".json").unlink()
    check(complaint("evaluate", f"--checkpoint={exported}", "--config.model.headds=2"), 'did you mean "heads"?')


def test_export_refuses_another_suffix(complaint, trained, tmp_path):
    check(
        complaint("export", f"--checkpoint={trained}", f"--output={tmp_path / 'm.pt'}"),
        "m.pt",
        "end in .npz",
        "new folder",
    )


def test_export_says_where_it_cannot_write(complaint, trained, tmp_path):
    (tmp_path / "file").write_text("")
    line = complaint("export", f"--checkpoint={trained}", f"--output={tmp_path / 'file' / 'm.npz'}")
    check(line, "file/m.npz", "cannot be written")


@pytest.fixture(scope="module")
def png():
    """The bytes of a small good picture."""
    tf = pytest.importorskip("tensorflow")
    return tf.io.encode_png(np.arange(64, dtype=np.uint8).reshape(8, 8, 1)).numpy()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda whole: b"not a picture", "cannot be decoded: it is no image"),
        (lambda whole: b"", "cannot be decoded"),
        (lambda whole: whole[: len(whole) // 2], "cannot be decoded"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["text", "empty", "truncated", "missing"],
)
def test_predict_names_the_picture_that_it_cannot_use(change, expected, complaint, trained, png, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(png)
    if change:
        bad.write_bytes(change(png))
    check(complaint("predict", f"--checkpoint={trained}", good, bad), f"'{bad}'", expected)
