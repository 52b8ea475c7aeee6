"""Weights for use: export is atomic, everything that was trained or exported loads, nothing else does."""

import dataclasses
import errno
import functools
import http.server
import json
import os
import pickle
import threading
import zipfile

import jax
import numpy as np
import pytest

from tests.checkpoint import released
from vit_jax.checkpoint import Metadata, TrainingCheckpoints, export_npz, load, weights
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import Model, ModelSettings

MODEL = Model(ModelSettings("mu/4", width=4, heads=2, mlp_dim=6), (8, 8), 3, 3)
METADATA = Metadata(MODEL, ("cat", "dog", "eel"), {"train": {"loss": "softmax"}}, 7, {"seed": 0, "next_batch": 7})


def random_params(seed: int = 0, model: Model = MODEL):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), model.abstract_params)


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "export" / "model.npz"
    export_npz(random_params(), METADATA, path)
    return path


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_export_is_two_files_that_load_back(exported):
    assert {file.name for file in exported.parent.iterdir()} == {"model.npz", "model.json"}
    loaded = load(exported)
    assert_same(loaded.params, random_params())
    assert loaded.metadata == METADATA
    assert loaded.source == exported
    assert (loaded.averaged, loaded.layout) == (False, "")
    assert loaded.report.loaded == tuple(MODEL.shapes)
    assert loaded.report.lines() == [f"loaded    {len(MODEL.shapes)} parameters"]


SMALL = {"width": 8, "depth": 2, "mlp_dim": 12, "heads": 2}
MODELS = {
    "token": ("mu/4", {"pool": "token"}),
    "map": ("mu/4", {"pool": "map", "pre_logits": True}),
    "registers": ("mu/4", {"pool": "gap", "registers": 2, "layer_scale": 1e-5}),
    "22B": ("mu/4", {"pool": "map", "parallel": True, "qk_norm": True, "qkv_bias": False, "norm": "rms"}),
    "axial": ("mu/4", {"pool": "gap", "axial": True, "posemb": "learned_2d"}),
    "every layer": ("mu/4", {"pool": "token", "posemb": "relative", "posemb_at": "every_layer"}),
    "hybrid": ("R50+mu/16", {"pool": "token", "trunk_units": (2, 1), "patch": 2}),
    "BiT": ("R50x1", {"trunk_units": (2,)}),
    "post-activation ResNet": ("R50x1", {"trunk_units": (2,), "trunk_version": 1}),
}


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_every_family_is_exported_and_loaded_with_and_without_its_description(name, described, tmp_path):
    variant, options = MODELS[name]
    encoder = {} if variant == "R50x1" else SMALL
    model = Model(ModelSettings(variant, **encoder, **options), (32, 32), 3, 5)
    params = random_params(model=model)
    path, beside = export_npz(params, Metadata(model, tuple("abcde"), {}), tmp_path / "m.npz")
    if not described:
        beside.unlink()
    loaded = load(path)
    assert_same(loaded.params, params)
    found = loaded.metadata.model
    if described or variant != "R50x1":  # a file of a ResNet tells no image size
        assert (found.image_size, found.classes) == ((32, 32), 5)
    images = np.random.default_rng(1).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    expected = jax.jit(model.apply)(params, images)["logits"]
    np.testing.assert_array_equal(jax.jit(found.apply)(loaded.params, images)["logits"], expected)


def test_exported_files_are_readable_by_whom_the_umask_allows(exported):
    umask = os.umask(0)
    os.umask(umask)
    assert {file.stat().st_mode & 0o777 for file in exported.parent.iterdir()} == {0o666 & ~umask}


def test_a_failing_export_leaves_the_old_files_and_nothing_else(exported, monkeypatch):
    before = {file: file.read_bytes() for file in exported.parent.iterdir()}

    def disk_full(file, **arrays):
        file.write(b"half an archive")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        export_npz(random_params(1), METADATA, exported)
    assert {file: file.read_bytes() for file in exported.parent.iterdir()} == before


def test_a_description_that_cannot_be_written_leaves_the_old_weights(exported):
    before = exported.read_bytes()
    with pytest.raises(TypeError, match="serializable"):
        export_npz(random_params(1), Metadata(MODEL, (), {"path": object()}), exported)
    assert exported.read_bytes() == before


def test_the_folder_of_an_export_will_do(exported):
    loaded = load(exported.parent)
    assert loaded.source == exported
    assert_same(loaded.params, random_params())


def test_an_export_must_be_called_npz(tmp_path):
    with pytest.raises(UserError, match=r"model\.pt' must end in \.npz"):
        export_npz(random_params(), METADATA, tmp_path / "model.pt")


def test_pickled_objects_are_refused_and_never_run(exported, tmp_path):
    witness = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return witness.touch, ()

    archive = dict(np.load(exported))
    np.savez(exported, **{**archive, "head/bias": np.array([Attack()] * 3, object)}, allow_pickle=True)
    with zipfile.ZipFile(exported) as file:
        assert b"touch" in file.read("head/bias.npy")  # the attack is in the file
    with pytest.raises(UserError, match="holds pickled objects in 'head/bias'"):
        load(exported)
    assert not witness.exists()
    pickle.loads(pickle.dumps(Attack()))
    assert witness.exists()  # and would have worked


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_refused(exported, share):
    data = exported.read_bytes()
    exported.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"model\.npz' (is empty|is truncated or damaged|is neither an npz)"):
        load(exported)


def test_a_flipped_bit_anywhere_is_a_user_error_or_harmless(exported):
    data = exported.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(0, len(data), 100):
        broken = bytearray(data)
        broken[place] ^= 1 << random.integers(8)
        exported.write_bytes(broken)
        try:
            assert_same(load(exported).params, random_params())
        except UserError:
            refused += 1
    assert refused > 50


def test_without_a_description_classes_have_numbers(exported):
    exported.with_suffix(".json").unlink()
    loaded = load(exported)
    assert_same(loaded.params, random_params())
    assert loaded.metadata.label_names == ("class 0", "class 1", "class 2")
    assert loaded.metadata.config["train"] == {"loss": "softmax"}
    assert loaded.layout == "released npz"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"model\.json' is truncated or damaged"),
        ("[]", "a JSON object was expected"),
        ('{"schema_version": 1}', "lacks part"),
    ],
)
def test_a_strange_description_is_refused(exported, text, message):
    exported.with_suffix(".json").write_text(text)
    with pytest.raises(UserError, match=message):
        load(exported)


def test_an_unknown_schema_version_is_refused(exported):
    description = exported.with_suffix(".json")
    description.write_text(json.dumps({**json.loads(description.read_text()), "schema_version": 99}))
    with pytest.raises(UserError, match="schema 99; this vit_jax reads 1"):
        load(exported)


def test_weights_of_another_model_are_refused(exported, tmp_path):
    other = Model(ModelSettings("mu/4", width=4, heads=2, mlp_dim=6), (8, 8), 3, 5)
    export_npz(random_params(), Metadata(other, (), {}), exported)
    with pytest.raises(UserError, match=r"does not fit mu/4: shapes differ .*head/bias is 3, not 5"):
        load(exported)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("described", [True, False])
def test_what_is_not_finite_is_refused(exported, value, described):
    params = random_params()
    params["head"]["bias"][1] = value
    export_npz(params, METADATA, exported)
    if not described:
        exported.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"model\.npz' holds NaN or infinity in 'head/bias'"):
        load(exported)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Two saves without an average (steps 5, 7) and one with it (step 9)."""
    folder = tmp_path_factory.mktemp("run")
    saves = TrainingCheckpoints(folder / "checkpoints", keep_last=3)
    for step, ema in ((5, {}), (7, {}), (9, {"ema": jax.device_put(random_params(99))})):
        state = {"params": jax.device_put(random_params(step)), "opt": {"count": jax.numpy.int32(step)}, **ema}
        saves.save(state, Metadata(MODEL, METADATA.label_names, METADATA.config, step))
        saves.wait()
    saves.close()
    (folder / "checkpoints" / "11.orbax-checkpoint-tmp" / "metadata").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("path", ["", "checkpoints", "checkpoints/9"])
def test_the_newest_complete_save_of_a_run_is_loaded_with_its_average(workdir, path):
    loaded = load(workdir / path)
    assert loaded.metadata.step == 9
    assert loaded.averaged
    assert loaded.source == workdir / "checkpoints" / "9"
    assert_same(loaded.params, random_params(99))
    assert loaded.report.loaded == tuple(MODEL.shapes)


def test_a_run_without_an_average_gives_its_parameters(workdir):
    loaded = load(workdir, step=7)
    assert not loaded.averaged
    assert loaded.metadata == Metadata(MODEL, METADATA.label_names, METADATA.config, 7)
    assert_same(loaded.params, random_params(7))
    assert_same(load(workdir / "checkpoints", step=7).params, random_params(7))
    assert_same(load(workdir / "checkpoints" / "5").params, random_params(5))


def test_a_step_that_was_not_saved_is_refused_with_those_that_were(workdir):
    with pytest.raises(UserError, match=r"no checkpoint of step 6; it has \[5, 7, 9\]"):
        load(workdir, step=6)


def test_an_empty_workdir_is_refused(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint yet"):
        load(tmp_path)


@pytest.mark.parametrize("step", [0, 7, 9])
def test_a_step_is_refused_where_there_is_nothing_to_choose(workdir, exported, step):
    for path in (exported, workdir / "checkpoints" / "9"):
        with pytest.raises(BadSetting, match=f"step = {step}: .*is no workdir with checkpoints to choose from"):
            load(path, step=step)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz", "x" * 300, "~nobody-of-this-name/x", "null\0", "", "a/b/c"])
def test_a_path_that_does_not_exist_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load(name)


def test_a_path_may_be_written_with_a_tilde(exported, monkeypatch):
    monkeypatch.setenv("HOME", str(exported.parent))
    assert load("~/model.npz").source == exported


# A published file: 2 x 2 patches of 4 pixels, with optimizer state around it.
TABLE = released.vit(**released.TINY)
ARRAYS = released.random_arrays(TABLE)


@pytest.fixture
def foreign(tmp_path):
    state = {"opt/state/step": np.int64(5), **{f"opt/target/{name}": array for name, array in ARRAYS.items()}}
    np.savez(tmp_path / "ViT-B_16.npz", **state)
    return tmp_path / "ViT-B_16.npz"


def test_a_published_file_is_loaded_with_a_report(foreign):
    loaded = load(foreign, settings={"gelu": "erf"})
    released.assert_same(loaded.params, released.tree(released.our_named(TABLE, ARRAYS)))
    assert (loaded.source, loaded.layout, loaded.averaged) == (foreign, "released npz", False)
    assert set(loaded.report.loaded) == set(released.our_named(TABLE, ARRAYS))
    assert loaded.report.ignored == ("opt/state/step",)
    assert loaded.metadata.model.settings.gelu == "erf"


def linear_in_between(table: np.ndarray) -> np.ndarray:
    """(2 * 2, d) -> (3 * 4, d) with aligned corners."""
    y, x = np.mgrid[0:1:3j, 0:1:4j].reshape(2, -1, 1)
    return table[0] * (1 - y) * (1 - x) + table[1] * (1 - y) * x + table[2] * y * (1 - x) + table[3] * y * x


def test_a_published_file_is_loaded_for_another_image_size(foreign):
    loaded = load(foreign, image_size=(12, 16))
    expected = released.our_named(TABLE, ARRAYS)
    table = expected.pop("pos_embedding")[0]
    found = loaded.params.pop("pos_embedding")[0]
    released.assert_same(loaded.params, released.tree(expected))
    np.testing.assert_array_equal(found[0], table[0])
    np.testing.assert_allclose(found[1:], linear_in_between(table[1:]), rtol=1e-5, atol=1e-6)
    assert loaded.metadata.model.image_size == (12, 16)
    assert loaded.metadata.config["data"]["image_size"] == [12, 16]
    assert loaded.metadata.config["data"]["channels"] == 3
    assert loaded.report.resized == {"pos_embedding": "2x2 to 3x4, bilinear"}
    assert loaded.report.ignored == ("opt/state/step",)
    assert loaded.layout == "released npz"


@pytest.mark.parametrize("trained", [True, False])
def test_our_own_weights_are_loaded_for_another_image_size(workdir, exported, trained):
    loaded = load(workdir if trained else exported, image_size=(12, 16))
    params = random_params(99 if trained else 0)
    found = loaded.params["pos_embedding"][0]
    np.testing.assert_allclose(found[1:], linear_in_between(params["pos_embedding"][0, 1:]), rtol=1e-5, atol=1e-6)
    about = loaded.metadata
    assert about.model == dataclasses.replace(MODEL, image_size=(12, 16))
    assert about.config == {**METADATA.config, "data": {"image_size": [12, 16]}}
    assert (about.label_names, loaded.averaged) == (METADATA.label_names, trained)


def test_the_same_image_size_changes_nothing(exported):
    loaded = load(exported, image_size=(8, 8))
    assert_same(loaded.params, random_params())
    assert loaded.report.resized == {}


def test_an_image_size_without_a_patch_is_refused(foreign):
    with pytest.raises(BadSetting, match=r"image_size = .*takes 4 pixels a side"):
        load(foreign, image_size=(3, 8))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder `tmp_path`; downloads go to `tmp_path / "cache"`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{opened.server_port}"
        opened.shutdown()
        thread.join()


def test_an_address_is_downloaded_and_loaded(foreign, server, tmp_path):
    loaded = load(f"{server}/{foreign.name}", image_size=(12, 16))
    assert loaded.source.is_relative_to(tmp_path / "cache")
    assert loaded.source.read_bytes() == foreign.read_bytes()
    assert loaded.metadata.model.image_size == (12, 16)
    assert loaded.report.ignored == ("opt/state/step",)
    with pytest.raises(UserError, match=r"absent\.npz.*there is no such file"):
        load(f"{server}/absent.npz")


@pytest.mark.parametrize("name", ["imagenet21k/ViT-B_16", "imagenet21k/ViT-B_16.npz"])
def test_a_published_name_is_fetched_from_where_it_is_published(foreign, monkeypatch, name):
    places = {"gs://vit_models/imagenet21k/ViT-B_16.npz": foreign}
    monkeypatch.setattr(weights, "fetch", places.__getitem__)
    assert load(name).source == foreign


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet21k/ViT-B_61", 'did you mean "imagenet21k/ViT-B_16"'),
        ("BiT-M-R50x2", 'did you mean "BiT-M-R50x'),
        ("augreg/B_16", r"give the whole location, gs://vit_models/augreg/<file>\.npz"),
    ],
)
def test_a_name_that_is_nearly_published_is_answered_with_the_nearest(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load(name)


def safetensors(arrays: released.Arrays) -> bytes:
    """The format, from its description: length of the header, header, data."""
    header, data = {}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def of_timm(named: released.Arrays) -> released.Arrays:
    """Our parameters as timm's VisionTransformer has them: outputs first, queries, keys and values in one."""
    d = named["cls"].shape[-1]
    result = {
        "cls_token": named["cls"],
        "pos_embed": named["pos_embedding"],
        "patch_embed.proj.weight": named["embedding/kernel"].transpose(3, 2, 0, 1),
        "patch_embed.proj.bias": named["embedding/bias"],
        "norm.weight": named["norm/scale"],
        "norm.bias": named["norm/bias"],
        "head.weight": named["head/kernel"].T,
        "head.bias": named["head/bias"],
    }
    for i in range(len(named["blocks/norm1/scale"])):
        block = {name.removeprefix("blocks/"): a[i] for name, a in named.items() if name.startswith("blocks/")}
        parts = [block[f"attn/{part}/kernel"].reshape(d, d).T for part in ("query", "key", "value")]
        biases = [block[f"attn/{part}/bias"].reshape(d) for part in ("query", "key", "value")]
        mine = {"attn.qkv.weight": np.concatenate(parts), "attn.qkv.bias": np.concatenate(biases)}
        mine |= {"attn.proj.weight": block["attn/out/kernel"].reshape(d, d).T, "attn.proj.bias": block["attn/out/bias"]}
        for n in "12":
            mine |= {f"norm{n}.weight": block[f"norm{n}/scale"], f"norm{n}.bias": block[f"norm{n}/bias"]}
            mine |= {
                f"mlp.fc{n}.weight": block[f"mlp/dense{n}/kernel"].T,
                f"mlp.fc{n}.bias": block[f"mlp/dense{n}/bias"],
            }
        result |= {f"blocks.{i}.{name}": array for name, array in mine.items()}
    return result


@pytest.mark.parametrize("whole_folder", [True, False])
def test_safetensors_of_timm_are_loaded_as_file_and_folder(tmp_path, whole_folder):
    named = released.our_named(TABLE, ARRAYS)
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors(of_timm(named)))
    path = tmp_path if whole_folder else file
    loaded = load(path, settings={"heads": 2})
    released.assert_same(loaded.params, released.tree(named))
    assert loaded.metadata.model.settings.heads in (2, None)
    assert loaded.metadata.model.image_size == (8, 8)
    assert loaded.layout not in ("", "released npz")
    with pytest.raises(BadSetting, match="step = 3"):
        load(path, step=3)
