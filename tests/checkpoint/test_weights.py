"""Weights for use: export is atomic, everything that was trained or exported loads, nothing else does."""

import errno
import json
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest

from vit_jax.checkpoint import Metadata, TrainingCheckpoints, export_npz, load_weights
from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings

MODEL = Model(ModelSettings("mu/4", width=4, heads=2, mlp_dim=6), (8, 8), 3, 3)
METADATA = Metadata(MODEL, ("cat", "dog", "eel"), {"train": {"loss": "softmax"}}, 7, {"seed": 0, "next_batch": 7})


def random_params(seed: int = 0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), MODEL.abstract_params)


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
    weights = load_weights(exported)
    assert_same(weights.params, random_params())
    assert weights.metadata == METADATA
    assert weights.source == exported
    assert not weights.averaged


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
    with pytest.raises(UserError, match="pickle"):
        load_weights(exported)
    assert not witness.exists()
    pickle.loads(pickle.dumps(Attack()))
    assert witness.exists()  # and would have worked


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_refused(exported, share):
    data = exported.read_bytes()
    exported.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"model\.npz' is missing, truncated or no npz archive"):
        load_weights(exported)


def test_a_flipped_bit_anywhere_is_a_user_error_or_harmless(exported):
    data = exported.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(0, len(data), 100):
        broken = bytearray(data)
        broken[place] ^= 1 << random.integers(8)
        exported.write_bytes(broken)
        try:
            assert_same(load_weights(exported).params, random_params())
        except UserError:
            refused += 1
    assert refused > 50


def test_weights_without_their_description_are_refused(exported):
    exported.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"no description model\.json beside it"):
        load_weights(exported)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "schema None"), ("{}", "schema None"), ('{"schema_version": 1}', "lacks part")],
)
def test_a_strange_description_is_refused(exported, text, message):
    exported.with_suffix(".json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_weights(exported)


def test_an_unknown_schema_version_is_refused(exported):
    description = exported.with_suffix(".json")
    description.write_text(json.dumps({**json.loads(description.read_text()), "schema_version": 99}))
    with pytest.raises(UserError, match="schema 99; this vit_jax reads 1"):
        load_weights(exported)


def test_weights_of_another_model_are_refused(exported, tmp_path):
    other = Model(ModelSettings("mu/4", width=4, heads=2, mlp_dim=6), (8, 8), 3, 5)
    export_npz(random_params(), Metadata(other, (), {}), exported)
    with pytest.raises(UserError, match="head/bias is 3 there and 5 in this model"):
        load_weights(exported)


def test_not_a_number_loads_like_any_number(tmp_path):
    params = random_params()
    params["head"]["bias"][:] = np.nan
    export_npz(params, METADATA, tmp_path / "m.npz")
    assert np.isnan(load_weights(tmp_path / "m.npz").params["head"]["bias"]).all()


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
    weights = load_weights(workdir / path)
    assert weights.metadata.step == 9
    assert weights.averaged
    assert weights.source == workdir / "checkpoints" / "9"
    assert_same(weights.params, random_params(99))


def test_a_run_without_an_average_gives_its_parameters(workdir):
    weights = load_weights(workdir, step=7)
    assert not weights.averaged
    assert weights.metadata == Metadata(MODEL, METADATA.label_names, METADATA.config, 7)
    assert_same(weights.params, random_params(7))
    assert_same(load_weights(workdir / "checkpoints" / "5").params, random_params(5))


def test_a_step_that_was_not_saved_is_refused_with_those_that_were(workdir):
    with pytest.raises(UserError, match=r"no checkpoint of step 6; it has \[5, 7, 9\]"):
        load_weights(workdir, step=6)


def test_an_empty_workdir_is_refused(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint yet"):
        load_weights(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz"])
def test_a_path_that_does_not_exist_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="does not exist"):
        load_weights(tmp_path / name)
