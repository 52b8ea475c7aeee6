"""Training states on disk: bit-exact onto any mesh, described, kept as told, never half read."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import resource
import shutil

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from vit_jax.checkpoint import Metadata, TrainingCheckpoints
from vit_jax.errors import Unsaved, UserError
from vit_jax.models import Model, ModelSettings
from vit_jax.parallel import MeshSettings, make_mesh
from vit_jax.train.optimizer import make_optimizer
from vit_jax.train.settings import OptimizerSettings
from vit_jax.train.state import abstract_state
from vit_jax.trees import named_leaves

MODEL = Model(ModelSettings("mu/4", width=64, heads=4, depth=2), (8, 8), 3, 8)
DATA = MeshSettings(data=8)
FSDP = MeshSettings(data=1, fsdp=8)
TENSOR = MeshSettings(data=4, tensor=2)


def metadata(step: int, model: Model = MODEL) -> Metadata:
    position = {"seed": 3, "next_batch": step, "batch_size": 16}
    return Metadata(model, tuple("abcdefgh"), {"train": {"loss": "softmax"}}, step, position)


def abstract(mesh: MeshSettings = DATA, optimizer: str = "adamw", ema: bool = True, model: Model = MODEL):
    decay = 0.1 if optimizer == "adamw" else 0.0
    settings = OptimizerSettings(name=optimizer, weight_decay=decay, clip_norm=1.0, mu_dtype="bfloat16")
    return abstract_state(model, make_optimizer(settings, list(model.shapes)), make_mesh(mesh), ema)


def random_state(target, seed: int = 0):
    """Arrays like `target`, laid out like it, of values that no fresh state has."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jax.device_put(random.integers(-99, 99, leaf.shape).astype(leaf.dtype), leaf.sharding), target
    )


def assert_same(restored, saved):
    for name, leaf in named_leaves(saved).items():
        found = named_leaves(restored)[name]
        assert found.dtype == leaf.dtype, name
        np.testing.assert_array_equal(found, leaf, err_msg=name)


@pytest.fixture
def checkpoints(tmp_path):
    opened = TrainingCheckpoints(tmp_path / "saves", keep_last=9)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def two_saves(tmp_path_factory):
    """Steps 1 and 2 of one run; the tests copy it before they touch it."""
    folder = tmp_path_factory.mktemp("saves")
    opened = TrainingCheckpoints(folder)
    for step in (1, 2):
        opened.save(random_state(abstract(), step), metadata(step))
    opened.close()
    return folder


@pytest.fixture
def copied(two_saves, tmp_path):
    shutil.copytree(two_saves, tmp_path / "copy")
    opened = []

    def reopen() -> TrainingCheckpoints:
        opened.append(TrainingCheckpoints(tmp_path / "copy"))
        return opened[-1]

    yield reopen
    for each in opened:
        each.close()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_state_moves_between_meshes_bit_for_bit(tmp_path, optimizer):
    state = random_state(abstract(DATA, optimizer))
    for number, mesh in enumerate((FSDP, TENSOR, DATA), start=1):
        with_step = {**state, "step": jax.numpy.int32(number)}
        opened = TrainingCheckpoints(tmp_path / str(number))
        opened.save(with_step, metadata(number))
        target = abstract(mesh, optimizer)
        opened.wait()
        restored = opened.restore(target, metadata(number), number)
        opened.close()
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        assert_same(restored, with_step)
        for name, leaf in named_leaves(restored).items():
            assert leaf.sharding == named_leaves(target)[name].sharding, name
        kernel = restored["params"]["blocks"]["mlp"]["dense1"]["kernel"]
        assert kernel.is_fully_replicated == (mesh is DATA)  # so that something did move
        state = restored


def test_a_restored_optimizer_goes_on_as_if_nothing_had_happened(checkpoints):
    optimizer = make_optimizer(OptimizerSettings(weight_decay=0.1), list(MODEL.shapes))
    target = abstract_state(MODEL, optimizer, make_mesh(DATA), False)
    state = jax.tree.map(lambda leaf: abs(leaf), random_state(target))
    gradient = random_state(target["params"], 1)
    checkpoints.save(state, metadata(4))
    checkpoints.wait()
    restored = checkpoints.restore(target, metadata(4), 4)
    update = jax.jit(optimizer.update)
    assert_same(update(gradient, restored["opt"], restored["params"]), update(gradient, state["opt"], state["params"]))
    assert isinstance(restored["opt"]["adam"], optax.ScaleByAdamState)


def test_the_description_says_what_it_must(two_saves):
    text = next(file for file in (two_saves / "2" / "metadata").iterdir() if file.name == "metadata").read_text()
    found = json.loads(text)
    assert found["schema_version"] == 1
    assert found["step"] == 2
    assert found["config"] == {"train": {"loss": "softmax"}}
    assert found["label_names"] == list("abcdefgh")
    assert found["data"] == {"seed": 3, "next_batch": 2, "batch_size": 16}
    assert found["model"]["name"] == "mu/4"
    assert found["model"]["image_size"] == [8, 8]
    assert found["model"]["shapes"]["blocks/mlp/dense1/kernel"] == [2, 64, 128]
    assert set(found["model"]["shapes"]) == set(MODEL.shapes)
    assert found["versions"]["jax"] == jax.__version__
    assert {"flax", "optax", "orbax-checkpoint", "numpy", "vit_jax"} <= set(found["versions"])
    assert Metadata.from_json(found, "here") == metadata(2)


def test_on_disk_are_plain_nested_dicts_with_the_documented_names(two_saves):
    assert {f.name for f in (two_saves / "2").iterdir() if f.is_dir()} == {"params", "opt", "ema", "metadata"}
    handler = ocp.PyTreeCheckpointer()
    raw = {}
    for item in ("params", "opt", "ema"):
        tree = ocp.StandardCheckpointHandler().metadata(two_saves / "2" / item).tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        raw[item] = handler.restore(two_saves / "2" / item, restore_args=as_numpy)

    def kinds(node):
        return {dict}.union(*map(kinds, node.values())) if isinstance(node, dict) else {type(node)}

    assert kinds(raw) <= {dict, np.ndarray, np.int32}
    names = set(MODEL.shapes)
    moments = {f"opt/adam/{m}/{name}" for name in names for m in ("mu", "nu")}
    averages = {f"{item}/{name}" for name in names for item in ("params", "ema")}
    assert set(named_leaves(raw)) == {"opt/adam/count"} | moments | averages
    np.testing.assert_array_equal(raw["params"]["cls"], random_state(abstract(), 2)["params"]["cls"])


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "kept"), [(1, 0, [7]), (3, 0, [5, 6, 7]), (1, 3, [1, 4, 7]), (2, 5, [1, 6, 7])]
)
def test_saves_are_kept_as_told(tmp_path, keep_last, keep_every, kept):
    state = {"params": {"x": jax.numpy.arange(4.0)}}
    opened = TrainingCheckpoints(tmp_path, keep_last, keep_every)
    for step in range(1, 8):
        opened.save(state, metadata(step))
    opened.wait()
    assert opened.steps() == kept
    assert opened.latest() == 7
    opened.close()
    assert sorted(int(folder.name) for folder in tmp_path.iterdir()) == kept


def test_saving_a_step_twice_keeps_the_first(checkpoints):
    first, second = random_state(abstract(), 1), random_state(abstract(), 2)
    for state in (first, second):
        checkpoints.save(state, metadata(1))
        checkpoints.wait()
    assert checkpoints.steps() == [1]
    assert_same(checkpoints.restore(abstract(), metadata(1), 1)["params"], first["params"])


def test_no_step_waits_for_the_disk(checkpoints, monkeypatch):
    """Memory that is still being written from cannot be given to the next step: it waits until it is free."""
    given = {}
    real = checkpoints._manager.save

    def save(step, args):
        given.update(args.items())
        return real(step, args=args)

    def places(leaf):
        return {shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards}

    monkeypatch.setattr(checkpoints._manager, "save", save)
    state = random_state(abstract())
    checkpoints.save(state, metadata(1))
    for item in ("params", "opt", "ema"):
        arrays, mine = named_leaves(given[item].item), named_leaves(state[item])
        assert arrays.keys() == mine.keys()
        for name, leaf in mine.items():
            assert arrays[name].sharding == leaf.sharding
            assert not places(arrays[name]) & places(leaf), name


def test_an_interrupted_save_is_neither_seen_nor_left_lying(copied, tmp_path):
    folder = tmp_path / "copy"
    for step in (3, 9):
        shutil.copytree(folder / "2", folder / f"{step}.orbax-checkpoint-tmp")
    opened = copied()
    assert opened.steps() == [1, 2]
    assert opened.latest() == 2
    opened.save(random_state(abstract()), metadata(3))  # the same step again, undisturbed
    opened.wait()
    assert {each.name for each in folder.iterdir()} == {"2", "3"}


@contextlib.contextmanager
def no_room():
    """No file can grow beyond 100 bytes, as on a full disk but for the words."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# Long, for it disturbs others: TensorStore tells Orbax's closed event loop of each write that failed.
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_save_without_room_says_so_and_leaves_the_earlier_one(checkpoints):
    state = random_state(abstract())
    checkpoints.save(state, metadata(1))
    checkpoints.wait()
    words = r"/saves/2 could not be written: File too large; step 1 is the newest good one, untouched$"

    def save():
        checkpoints.save(state, metadata(2))
        checkpoints.wait()

    with no_room(), pytest.raises(Unsaved, match=words):
        save()
    assert checkpoints.steps() == [1]
    assert {folder.name for folder in checkpoints.directory.iterdir()} == {"1"}
    assert_same(checkpoints.restore(abstract(), metadata(1), 1)["params"], state["params"])
    checkpoints.save(state, metadata(2))  # there is room again
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]


@pytest.mark.long  # as above
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_that_ends_for_another_failure_to_write_says_both(checkpoints):
    state = random_state(abstract())
    words = r"^metrics could not be written; checkpoint .*/saves/1 could not be written: File too large; there is no"

    def run():
        with checkpoints:
            checkpoints.save(state, metadata(1))
            raise Unsaved("metrics could not be written")

    with no_room(), pytest.raises(Unsaved, match=words):
        run()


@pytest.mark.parametrize(
    "cause", ["x.orbax-checkpoint-tmp/d/1: No space left on device", "of somebody else"], ids=["ours", "another"]
)
def test_writes_that_fail_after_the_first_print_no_trace(checkpoints, caplog, cause):
    async def fail():
        raise ValueError(cause)

    async def nobody_asks():
        left = [asyncio.gather(fail(), fail()), asyncio.create_task(fail()), asyncio.get_running_loop().create_future()]
        left[-1].set_exception(ValueError(cause))
        await asyncio.sleep(0.01)
        left.clear()
        gc.collect()

    asyncio.run(nobody_asks())
    assert len(caplog.records) == (0 if "orbax" in cause else 3)


def no_manifest(save):
    (save / "params" / "manifest.ocdbt").unlink()
    shutil.rmtree(save / "params" / "ocdbt.process_0")


def half_the_data(save):
    for file in (save / "params").glob("**/d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_parameters(save):
    shutil.rmtree(save / "params")


def half_a_description(save):
    (save / "metadata" / "metadata").write_text('{"schema_version": 1, ')


@pytest.mark.parametrize("damage", [no_manifest, half_the_data, no_parameters, half_a_description])
def test_a_damaged_save_is_refused_and_the_earlier_good_one_named(tmp_path, damage):
    # One array only: when several reads fail at once, Orbax leaves coroutines behind that warn in later tests.
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = {
        "params": {"x": jax.ShapeDtypeStruct((4096,), np.float32, sharding=device)},
        "step": jax.ShapeDtypeStruct((), np.int32, sharding=device),
    }
    opened = TrainingCheckpoints(tmp_path)
    for step in (1, 2):
        opened.save(random_state(target, step), metadata(step))
    opened.wait()
    damage(tmp_path / "2")
    with pytest.raises(
        UserError, match=r"/2 cannot be read .*; if it is damaged, move it away to go on from step 1$"
    ) as error:
        opened.restore(target, metadata(2), 2)
    assert "\n" not in str(error.value)
    assert_same(opened.restore(target, metadata(1), 1)["params"], random_state(target, 1)["params"])
    damage(tmp_path / "1")
    with pytest.raises(UserError, match=r"/1 cannot be read .*; there is no earlier one$"):
        opened.restore(target, metadata(1), 1)
    opened.close()


def test_a_save_of_another_model_is_refused_by_its_first_differing_shapes(copied):
    other = dataclasses.replace(MODEL, classes=5, settings=dataclasses.replace(MODEL.settings, depth=3))
    message = r"copy/2 holds another model: blocks/attn/key/bias is 2x4x16 there and 3x4x16 in this model; .* more\)$"
    with pytest.raises(UserError, match=message):
        copied().restore(abstract(model=other), metadata(2, other), 2)


def test_a_save_of_another_optimizer_is_refused_without_calling_it_damaged(copied):
    with pytest.raises(
        UserError, match=r"lacks opt/momentum/trace/\S+ and has opt/adam/count; set the config"
    ) as error:
        copied().restore(abstract(optimizer="sgd"), metadata(2), 2)
    assert "delete" not in str(error.value)


def test_a_save_without_an_average_is_refused_by_a_run_that_wants_one(checkpoints):
    checkpoints.save(random_state(abstract(ema=False)), metadata(1))
    checkpoints.wait()
    with pytest.raises(UserError, match=r"it lacks ema/\S+; set the config"):
        checkpoints.restore(abstract(ema=True), metadata(1), 1)


def test_an_unknown_schema_version_is_refused(copied, tmp_path):
    file = tmp_path / "copy" / "2" / "metadata" / "metadata"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 2}))
    with pytest.raises(UserError, match="copy/2 has checkpoint schema 2; this vit_jax reads 1"):
        copied().restore(abstract(), metadata(2), 2)
