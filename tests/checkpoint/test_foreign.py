"""Published files in every dialect give the same numbers and the right model; incomplete ones say what is wrong."""

import dataclasses

import jax
import ml_dtypes
import numpy as np
import pytest

from tests.checkpoint import released
from vit_jax.checkpoint import foreign
from vit_jax.checkpoint.foreign import Found, describe_foreign, interpret, own_params, read_foreign
from vit_jax.checkpoint.layouts import Hints, bit, google
from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings

TINY = released.vit(**released.TINY)
TINY_MODEL = Model(ModelSettings("mu/4", width=8, depth=3, mlp_dim=12, pool="token"), (8, 8), 3, 7)
ROW_OF_CLS = "Transformer/posembed_input/pos_embedding"
BLOCK_5 = "Transformer/encoderblock_5"


def read(arrays: released.Arrays, settings: dict | None = None, model: Model | None = None) -> Found:
    return interpret(arrays, {}, "file.npz", settings or {}, model)


def linen(arrays: released.Arrays) -> released.Arrays:
    """The numbering of newer libraries."""
    numbers = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0"}
    numbers |= {"LayerNorm_2": "LayerNorm_1", "MlpBlock_3": "MlpBlock_0"}
    result = {}
    for name, array in arrays.items():
        parts = name.split("/")
        if parts[0] == "Transformer":
            parts = [numbers.get(part, part) for part in parts]
        result["/".join(parts)] = array
    return result


def big_vision(arrays: released.Arrays) -> released.Arrays:
    """Positions at the root, without the class token's row, which must be zero."""
    result = linen(arrays)
    table = result.pop(ROW_OF_CLS)
    if "cls" in arrays:
        assert not table[:, 0].any()
        table = table[:, 1:]
    return {**result, "pos_embedding": table}


def scanned(arrays: released.Arrays) -> released.Arrays:
    """big_vision's blocks as stacked arrays."""
    result, blocks = {}, {}
    for name, array in big_vision(arrays).items():
        if name.startswith("Transformer/encoderblock_"):
            _, block, rest = name.split("/", 2)
            blocks.setdefault(rest, {})[int(block.removeprefix("encoderblock_"))] = array
        else:
            result[name] = array
    stacks = {rest: np.stack([layers[i] for i in range(len(layers))]) for rest, layers in blocks.items()}
    return {**result, **{f"Transformer/encoderblock/{rest}": array for rest, array in stacks.items()}}


def prefixed(arrays: released.Arrays, prefix: str) -> released.Arrays:
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def a_file(table: released.Table) -> released.Arrays:
    """With zeros for the class token's position, so that every dialect can hold it."""
    arrays = released.random_arrays(table)
    if "cls" in table:
        arrays[ROW_OF_CLS][:, 0] = 0
    return arrays


OTHERS = {
    "opt/state/step": np.int32(9),
    "opt/state/param_states/cls/grad_ema": np.ones(3, np.float32),
    "extra": np.ones(1),
}
TEXT = {"params/txt/Embed_0/embedding": np.ones((3, 2), np.float32), "params/t": np.ones(1, np.float32)}
DIALECTS = {
    "released": lambda a: (a, []),
    "linen": lambda a: (linen(a), []),
    "big_vision": lambda a: (big_vision(a), []),
    "scanned": lambda a: (scanned(a), []),
    "training state": lambda a: ({**OTHERS, **prefixed(a, "opt/target/")}, list(OTHERS)),
    "training state, linen": lambda a: ({**prefixed(linen(a), "opt/target/"), **OTHERS}, list(OTHERS)),
    "params": lambda a: ({**prefixed(big_vision(a), "params/"), "chrono/x": np.ones(1)}, ["chrono/x"]),
    "image and text": lambda a: ({**TEXT, **prefixed(scanned(a), "params/img/")}, list(TEXT)),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("pool", ["token", "gap", "map"])
def test_every_dialect_loads_to_the_same_parameters(dialect, pool):
    table = released.vit(**{**released.TINY, "depth": 11, "rows": 4 + (pool == "token")}, pool=pool, pre_logits=True)
    arrays = a_file(table)
    written, ignored = DIALECTS[dialect](arrays)
    found = read(written)
    released.assert_same(found.params, released.tree(released.our_named(table, arrays)))
    assert found.ignored == ignored
    assert found.layout == "released npz"
    assert (found.model.settings.depth, found.model.settings.pool, found.model.image_size) == (11, pool, (8, 8))


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
@pytest.mark.parametrize("squeezed", [False, True])
def test_group_norms_of_hybrids_may_have_four_dimensions(prefix, squeezed):
    table = released.hybrid((2,), **{**released.TINY, "patch": 1}, squeezed=squeezed)
    arrays = released.random_arrays(table)
    found = read(prefixed(arrays, prefix))
    params = released.tree(released.our_named(table, arrays))
    released.assert_same(found.params, params)
    assert found.params["trunk"]["block1"]["units"]["norm3"]["scale"].shape == (1, 256)


def test_convolutions_of_bit_may_be_numbered():
    table = released.bit((2, 1), classes=5)
    arrays = released.random_arrays(table)
    numbered = {
        name.replace("standardized_conv2d/", f"standardized_conv2d_{i}/"): arrays[name] for i, name in enumerate(arrays)
    }
    assert set(numbered) != set(arrays)
    found = read(numbered)
    released.assert_same(found.params, released.tree(released.our_named(table, arrays)))
    assert (found.layout, found.ignored, found.hints) == ("BiT npz", [], Hints())


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_parameters_become_float32_whatever_the_file_holds(dtype, tmp_path):
    arrays = {name: array.astype(dtype) for name, array in released.random_arrays(TINY).items()}
    np.savez(tmp_path / "file.npz", **arrays)
    if dtype is ml_dtypes.bfloat16:
        with np.load(tmp_path / "file.npz") as file:
            assert file["cls"].dtype == np.dtype("V2")  # what big_vision's files hold
    expected = {name: array.astype(np.float32) for name, array in released.our_named(TINY, arrays).items()}
    released.assert_same(read_foreign(tmp_path / "file.npz", {}).params, released.tree(expected))


# (table, the model written down by hand)
SMALL = {"width": 8, "depth": 3, "mlp_dim": 12}
NUMBERS = {
    "token": (TINY, TINY_MODEL),
    "gap": (
        released.vit(**{**released.TINY, "rows": 4}, pool="gap"),
        Model(ModelSettings("mu/4", **SMALL, pool="gap"), (8, 8), 3, 7),
    ),
    "map": (
        released.vit(**{**released.TINY, "rows": 4}, pool="map"),
        Model(ModelSettings("mu/4", **SMALL, pool="map"), (8, 8), 3, 7),
    ),
    "pre_logits": (
        released.vit(**released.TINY, pre_logits=True),
        Model(ModelSettings("mu/4", **SMALL, pre_logits=True), (8, 8), 3, 7),
    ),
    "hybrid with a unit 10": (
        released.hybrid((11,), **{**released.TINY, "patch": 1}),
        Model(ModelSettings("R50+mu/16", **SMALL, trunk_units=(11,)), (8, 8), 3, 7),
    ),
    "root only": (
        released.hybrid((), **{**released.TINY, "patch": 8}),
        Model(ModelSettings("R+mu/16", **SMALL), (64, 64), 3, 7),
    ),
    "BiT with a unit 10": (
        released.bit((11,), classes=7),
        Model(ModelSettings("R50x1", trunk_units=(11,)), (224, 224), 3, 7),
    ),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_the_loaded_model_computes_what_the_original_does(case):
    table, model = NUMBERS[case]
    arrays = released.random_arrays(table)
    params = released.tree(released.our_named(table, arrays))
    found = read(arrays)
    released.assert_same(found.params, params)
    assert found.model.image_size == model.image_size
    size = (2, *(min(side, 32) for side in model.image_size), 3) if "BiT" in case else (2, *model.image_size, 3)
    images = np.random.default_rng(1).uniform(-1, 1, size).astype(np.float32)
    expected = jax.jit(model.apply)(params, images)["logits"]
    assert np.std(expected) > 0
    np.testing.assert_array_equal(jax.jit(found.model.apply)(found.params, images)["logits"], expected)


def test_a_class_token_without_a_position_gets_zeros():
    found = read(big_vision(a_file(TINY)))
    table = found.params["pos_embedding"]
    assert table.shape == (1, 5, 8)
    assert not table[0, 0].any()
    assert table[0, 1:].all()


def test_a_file_of_another_shape_of_picture_loads_where_the_model_is_known():
    table = released.vit(**{**released.TINY, "rows": 7})
    arrays = released.random_arrays(table)
    with pytest.raises(UserError, match=r"file\.npz .*6 position embeddings do not fill a square grid"):
        read(arrays)
    model = dataclasses.replace(TINY_MODEL, image_size=(8, 12))
    released.assert_same(read(arrays, model=model).params, released.tree(released.our_named(table, arrays)))


def test_what_the_person_says_wins():
    found = read(released.random_arrays(TINY), {"gelu": "erf"})
    assert found.model == dataclasses.replace(TINY_MODEL, settings=dataclasses.replace(TINY_MODEL.settings, gelu="erf"))
    assert found.hints.settings == {"gelu": "erf"}
    assert read(released.random_arrays(TINY), {"heads": 2}).model.settings.resolved == TINY_MODEL.settings.resolved
    assert "shapes differ" in refusal(released.random_arrays(TINY), {"heads": 4})


def test_what_the_person_says_wins_over_what_the_file_says(monkeypatch):
    said = Hints({"gelu": "erf", "norm_epsilon": 1e-12}, image_size=(4, 16))
    layout = dataclasses.replace(google.LAYOUT, hints=lambda arrays, config: said)
    monkeypatch.setattr(foreign, "LAYOUTS", (layout,))
    found = read(released.random_arrays(TINY), {"gelu": "tanh"})
    assert (found.model.settings.gelu, found.model.settings.norm_epsilon) == ("tanh", 1e-12)
    assert found.model.image_size == (4, 16)


def refusal(arrays: released.Arrays, settings: dict | None = None, model: Model | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read(arrays, settings, model)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def twelve():
    """A file of twelve small layers."""
    return released.random_arrays(released.vit(**{**released.TINY, "depth": 12}))


def without(arrays: released.Arrays, start: str) -> released.Arrays:
    return {name: array for name, array in arrays.items() if not name.startswith(start)}


TWELVE_MODEL = Model(ModelSettings("mu/4", width=8, depth=12, mlp_dim=12), (8, 8), 3, 7)


@pytest.mark.parametrize("model", [None, TWELVE_MODEL])
def test_a_block_missing_in_the_middle_is_named(twelve, model):
    message = refusal(without(twelve, f"{BLOCK_5}/"), model=model)
    assert message.startswith("file.npz (released npz) is incomplete or damaged: ")
    assert message.count(f"{BLOCK_5}/") == message.count("is missing") == 4
    assert message.endswith(" and 12 more")  # of 16
    message = refusal(without(twelve, f"{BLOCK_5}/LayerNorm_2/bias"), model=model)
    assert message.endswith(f": {BLOCK_5}/LayerNorm_2/bias is missing")


def test_the_last_block_missing_is_named_where_the_model_is_known(twelve):
    message = refusal(without(twelve, "Transformer/encoderblock_11/"), model=TWELVE_MODEL)
    assert message.startswith("file.npz (released npz) does not fit mu/4: it lacks Transformer/encoderblock_11/")
    assert message.endswith(" and 12 more")
    assert read(without(twelve, "Transformer/encoderblock_11/")).model.settings.depth == 11  # else nobody can tell


def test_one_array_of_the_last_block_missing_is_named(twelve):
    name = "Transformer/encoderblock_11/LayerNorm_2/bias"
    message = refusal(without(twelve, name))
    assert message == f"file.npz (released npz) does not fit mu/4: it lacks {name}"


def test_all_that_does_not_fit_is_in_one_line_by_the_names_of_the_file():
    arrays = without(released.random_arrays(TINY), "Transformer/encoder_norm/scale")
    extra = "Transformer/encoderblock_3/LayerNorm_0/bias"
    arrays |= {"surprise": np.ones(1, np.float32), extra: np.ones(8, np.float32)}
    arrays["Transformer/encoderblock_1/MlpBlock_3/Dense_1/bias"] = np.ones(8, np.float32)
    arrays["head/bias"] = np.ones(9, np.float32)
    assert refusal(arrays) == (
        "file.npz (released npz) does not fit mu/4: it lacks Transformer/encoder_norm/scale; "
        f"it has besides surprise, {extra}; shapes differ (ours): head/bias is 9, not 7"
    )


def test_layers_of_different_shapes_are_damage():
    arrays = released.random_arrays(TINY)
    arrays["Transformer/encoderblock_1/MlpBlock_3/Dense_1/bias"] = np.ones(9, np.float32)
    says = "Transformer/encoderblock_0/MlpBlock_3/Dense_1/bias and those of other layers differ in shape"
    assert refusal(arrays).endswith(says)


def test_a_bit_file_is_explained_by_its_own_names():
    table = released.bit((3,), classes=5)
    arrays = released.random_arrays(table)
    norm = "resnet/block1/unit03/b/group_norm/gamma"
    model = Model(ModelSettings("R50x1", trunk_units=(3,)), (32, 32), 3, 6)
    message = refusal({**without(arrays, norm), "resnet/x": np.ones(1)}, model=model)
    assert message.startswith(f"file.npz (BiT npz) does not fit R50x1: it lacks {norm}; it has besides resnet/x; ")
    differences = ["resnet/head/conv2d/bias is 5, not 6", "resnet/head/conv2d/kernel is 256x5, not 256x6"]
    assert sorted(message.partition("shapes differ (ours): ")[2].split(", ")) == sorted(
        ", ".join(differences).split(", ")
    )
    message = refusal({**arrays, "resnet/head/conv2d/kernel": np.ones((2, 1, 256, 5), np.float32)})
    assert "resnet/head/conv2d/kernel 2x1x256x5: Shape mismatch, 2 != 1" in message
    message = refusal(without(arrays, "resnet/block1/unit02/"))
    assert "resnet/block1/unit02/a/group_norm/gamma is missing" in message


def test_a_model_of_another_size_is_refused():
    model = Model(ModelSettings("mu/4", width=8, depth=3, mlp_dim=10, pool="gap"), (8, 12), 3, 7)
    message = refusal(released.random_arrays(TINY), model=model)
    assert "it has besides cls; " in message
    assert message.endswith(" and 6 more")  # positions, and three arrays in each of three blocks
    model = dataclasses.replace(TINY_MODEL, image_size=(8, 12))
    says = f"file.npz (released npz) does not fit mu/4: shapes differ (ours): {ROW_OF_CLS} is 1x5x8, not 1x7x8"
    assert refusal(released.random_arrays(TINY), model=model) == says


def test_two_tables_of_positions_are_one_too_many():
    arrays = released.random_arrays(TINY)
    assert "it has besides pos_embedding" in refusal({**arrays, "pos_embedding": arrays[ROW_OF_CLS]})


def test_an_unknown_kind_of_file_is_answered_with_the_known_ones():
    arrays = {f"layer{i}/w": np.ones(1, np.float32) for i in range(9)}
    message = refusal(arrays)
    assert "released npz, BiT npz" in message
    assert "its arrays are called layer0/w, layer1/w, layer2/w, layer3/w, ..." in message


def test_a_model_without_positions_does_not_tell_its_image_size():
    arrays = released.random_arrays(TINY)
    assert "no table of positions: say what it has" in refusal(without(arrays, ROW_OF_CLS))


@pytest.mark.parametrize("heads", [0, -1, "2", 2.0, True])
def test_numbers_of_heads_that_are_none(heads):
    assert f"heads = {heads!r}: " in refusal(released.random_arrays(TINY), {"heads": heads})


def test_an_unknown_setting_is_refused():
    assert 'did you mean "gelu"?' in refusal(released.random_arrays(TINY), {"gelus": "erf"})


def test_the_description_says_what_the_file_does_not():
    about = describe_foreign(read(released.random_arrays(TINY)))
    assert about.model == TINY_MODEL
    assert about.label_names == tuple(f"class {i}" for i in range(7))
    data = {"image_size": [8, 8], "channels": 3, "eval_preprocess": "decode|resize"}
    assert (about.config["data"], about.config["train"]) == (data, {"loss": "softmax"})
    assert about.config["model"]["variant"] == "mu/4"
    assert about.step == 0


@pytest.mark.parametrize(
    ("classes", "loss"), [(21_843, "sigmoid"), (21_842, "softmax"), (1000, "softmax"), (0, "softmax")]
)
def test_imagenet_21k_has_several_labels_an_image(classes, loss):
    found = read(released.random_arrays(released.vit(**{**released.TINY, "classes": classes})))
    about = describe_foreign(found)
    assert about.config["train"]["loss"] == loss
    assert len(about.label_names) == classes


def test_what_the_file_says_is_in_the_description():
    found = read(released.random_arrays(TINY))
    hints = Hints(label_names=tuple("abcdefg"), eval_preprocess="decode|resize_small(256)|central_crop(224)")
    about = describe_foreign(dataclasses.replace(found, hints=hints))
    assert about.label_names == tuple("abcdefg")
    assert about.config["data"]["eval_preprocess"] == hints.eval_preprocess
    with pytest.raises(UserError, match="names 2 classes, and its classifier has 7"):
        describe_foreign(dataclasses.replace(found, hints=Hints(label_names=("a", "b"))))


def test_our_own_files_are_read_for_the_model_they_describe():
    arrays = released.random_arrays(TINY)
    params = own_params(arrays, google.LAYOUT, TINY_MODEL, "here.npz")
    released.assert_same(params, released.tree(released.our_named(TINY, arrays)))
    assert jax.tree.structure(params) == jax.tree.structure(TINY_MODEL.abstract_params)
    with pytest.raises(UserError, match=r"^here\.npz .*it lacks head/bias$"):
        own_params(without(arrays, "head/bias"), google.LAYOUT, TINY_MODEL, "here.npz")
    name = "Transformer/encoderblock_1/LayerNorm_0/bias"
    with pytest.raises(UserError, match=rf"^here\.npz is incomplete or damaged: {name} is missing$"):
        own_params(without(arrays, name), google.LAYOUT, TINY_MODEL, "here.npz")
    with pytest.raises(UserError, match=r"it lacks resnet/.* and 149 more; it has besides \w"):
        own_params(arrays, bit.LAYOUT, Model(ModelSettings("R50x1"), (32, 32), 3, 7), "here.npz")
