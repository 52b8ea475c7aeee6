"""Weights for another image size, pooling or set of classes: what changes, what does not, and what the report says."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from tests.checkpoint.released import assert_same
from vit_jax.checkpoint import Report, adapt
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import Model, ModelSettings
from vit_jax.trees import named_leaves, nested

SHAPE = {"width": 8, "depth": 2, "mlp_dim": 12, "heads": 2}


@functools.cache  # a model remembers its shapes
def vit(size: tuple[int, int] = (8, 12), classes: int = 3, **options: Any) -> Model:
    """Patches of 4 pixels: 2 x 3 of them by default."""
    return Model(ModelSettings("mu/4", **{**SHAPE, **options}), size, 3, classes)


def random_params(model: Model, seed: int = 0) -> dict[str, Any]:
    """No value is zero, nor an initial one."""
    random = np.random.default_rng(seed)
    return nested({name: random.normal(0.1, 0.3, s).astype(np.float32) for name, s in model.shapes.items()})


def bilinear(table: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """(h*w, d) -> (h'*w', d) with aligned corners, by linear interpolation of one column of numbers at a time."""
    grid = table.reshape(*old, -1)
    for axis in (0, 1):
        places = np.linspace(0, old[axis] - 1, new[axis])
        grid = np.apply_along_axis(lambda column, p=places: np.interp(p, np.arange(len(column)), column), axis, grid)
    return grid.reshape(new[0] * new[1], -1)


def bicubic(table: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """As JAX does it."""
    grid = jax.image.resize(table.reshape(*old, -1), (*new, table.shape[-1]), "cubic", antialias=True)
    return np.asarray(grid).reshape(new[0] * new[1], -1)


FORMULAS = {"bilinear": bilinear, "bicubic": bicubic}


def unchanged(found: dict, params: dict, *but: str) -> None:
    """All other parameters are the very same, and no name is new."""
    found, params = named_leaves(found), named_leaves(params)
    assert_same(*({name: array for name, array in side.items() if name not in but} for side in (found, params)))


def check_fits(params: dict, model: Model) -> None:
    assert {name: array.shape for name, array in named_leaves(params).items()} == model.shapes
    assert {array.dtype for array in named_leaves(params).values()} == {np.dtype("float32")}


OPTIONS = [
    {},
    {"pool": "gap", "pre_logits": True},
    {"pool": "map", "registers": 2},
    {"posemb": "learned_2d"},
    {"posemb_at": "every_layer"},
    {"posemb": "relative", "posemb_at": "every_layer"},
    {"posemb": "sincos_2d", "classes": 0},
    {"axial": True, "pool": "gap"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("head", ["keep", "resize"])
def test_the_same_model_gets_the_same_bits(options, head):
    model = vit(**options)
    params = random_params(model)
    found, report = adapt(params, model, model, head=head)
    assert_same(found, params)
    resized = {"head/kernel": "3 of 3 classes kept", "head/bias": "3 of 3 classes kept"}
    resized = resized if head == "resize" and model.classes else {}
    assert report == Report(tuple(name for name in model.shapes if name not in resized), resized=resized)


@pytest.mark.parametrize("method", FORMULAS)
@pytest.mark.parametrize("pool", ["token", "gap", "map"])
@pytest.mark.parametrize("size", [(16, 16), (12, 8), (28, 12), (4, 4), (8, 16)])
def test_positions_are_resized_and_the_row_of_the_class_token_is_kept(method, pool, size):
    source, target = vit(pool=pool), vit(size, pool=pool)
    params = random_params(source)
    found, report = adapt(params, source, target, method=method)
    front, new = int(pool == "token"), (size[0] // 4, size[1] // 4)
    table, old = found["pos_embedding"][0], params["pos_embedding"][0]
    np.testing.assert_array_equal(table[:front], old[:front])
    np.testing.assert_allclose(table[front:], FORMULAS[method](old[front:], (2, 3), new), rtol=1e-5, atol=1e-6)
    unchanged(found, params, "pos_embedding")
    check_fits(found, target)
    assert report.resized == {"pos_embedding": f"2x3 to {new[0]}x{new[1]}, {method}"}
    assert set(report.loaded) == set(target.shapes) - {"pos_embedding"}
    assert (report.reset, report.ignored) == ((), ())


def test_bilinear_is_the_default():
    source, target = vit(), vit((16, 16))
    params = random_params(source)
    expected, _ = adapt(params, source, target, method="bilinear")
    assert_same(adapt(params, source, target)[0], expected)


def test_tables_of_every_layer_are_resized_each():
    source, target = vit(posemb_at="every_layer"), vit((16, 8), posemb_at="every_layer")
    params = random_params(source)
    found, report = adapt(params, source, target)
    tables, old = found["positions"]["pos_embedding"], params["positions"]["pos_embedding"]
    assert tables.shape == (2, 1, 9, 8)
    for layer in range(2):
        np.testing.assert_array_equal(tables[layer, 0, 0], old[layer, 0, 0])
        expected = bilinear(old[layer, 0, 1:], (2, 3), (4, 2))
        np.testing.assert_allclose(tables[layer, 0, 1:], expected, rtol=1e-5, atol=1e-6)
    assert report.resized == {"positions/pos_embedding": "2x3 to 4x2, bilinear"}
    check_fits(found, target)


@pytest.mark.parametrize("at", ["stem", "every_layer"])
@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((16, 12), {"pos_embedding_y": "2x1 to 4x1, bilinear"}),
        ((8, 20), {"pos_embedding_x": "1x3 to 1x5, bilinear"}),
        ((12, 8), {"pos_embedding_y": "2x1 to 3x1, bilinear", "pos_embedding_x": "1x3 to 1x2, bilinear"}),
    ],
)
def test_tables_by_rows_and_columns_are_resized_along_their_side(at, size, resized):
    options = {"posemb": "learned_2d", "posemb_at": at}
    source, target = vit(**options), vit(size, **options)
    params = random_params(source)
    found, report = adapt(params, source, target)
    check_fits(found, target)
    prefix = "positions/" if at == "every_layer" else ""
    assert report.resized == {f"{prefix}{name}": how for name, how in resized.items()}
    unchanged(found, params, *report.resized)
    found, params = (side["positions"] if prefix else side for side in (found, params))
    for name, old, new in (("pos_embedding_y", 2, size[0] // 4), ("pos_embedding_x", 3, size[1] // 4)):
        for table, before in zip(found[name].reshape(-1, new, 4), params[name].reshape(-1, old, 4), strict=True):
            np.testing.assert_allclose(table, bilinear(before, (old, 1), (new, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("at", ["stem", "every_layer", "shared"])
@pytest.mark.parametrize("size", [(16, 16), (12, 8)])  # 12 x 8 has as many patches as 8 x 12
def test_relative_positions_are_never_resized(at, size):
    options = {"posemb": "relative", "posemb_at": at}
    source = vit(**options)
    with pytest.raises(UserError, match="relative_embedding cannot be resized: offsets between tokens in raster order"):
        adapt(random_params(source), source, vit(size, **options))


def test_fixed_positions_need_no_resizing():
    source, target = vit(posemb="sincos_2d"), vit((16, 16), posemb="sincos_2d")
    params = random_params(source)
    found, report = adapt(params, source, target)
    assert_same(found, params)
    assert report == Report(tuple(target.shapes))


@pytest.mark.parametrize("head", ["keep", "reset"])
def test_a_class_token_is_dropped_with_its_position(head):
    source, target = vit(), vit(pool="gap")
    params = random_params(source)
    found, report = adapt(params, source, target, head=head)
    np.testing.assert_array_equal(found["pos_embedding"], params["pos_embedding"][:, 1:])
    check_fits(found, target)
    assert report.ignored == ("cls",)
    assert report.resized == {"pos_embedding": "without the class token's row"}
    assert set(report.reset) == ({"head/kernel", "head/bias"} if head == "reset" else set())


def test_a_class_token_that_the_file_lacks_starts_at_zero():
    source, target = vit(pool="gap"), vit((16, 8))
    params = random_params(source)
    found, report = adapt(params, source, target)
    assert found["cls"].shape == (1, 1, 8)
    assert not found["cls"].any()
    assert not found["pos_embedding"][0, 0].any()
    expected = bilinear(params["pos_embedding"][0], (2, 3), (4, 2))
    np.testing.assert_allclose(found["pos_embedding"][0, 1:], expected, rtol=1e-5, atol=1e-6)
    check_fits(found, target)
    assert report == Report(
        tuple(name for name in target.shapes if name not in ("cls", "pos_embedding")),
        ("cls",),
        {"pos_embedding": "2x3 to 4x2, bilinear, with a row of zeros for the class token"},
        changed=("pool from gap to token",),
    )


def test_pre_logits_are_dropped_or_fresh_and_the_classifier_with_them():
    with_it, without = vit(pre_logits=True), vit()
    params = random_params(with_it)
    found, report = adapt(params, with_it, without, head="reset")
    check_fits(found, without)
    assert report.ignored == ("pre_logits/kernel", "pre_logits/bias")
    params = random_params(without)
    found, report = adapt(params, without, with_it, head="reset")
    check_fits(found, with_it)
    assert report.reset == ("head/kernel", "head/bias", "pre_logits/kernel", "pre_logits/bias")
    kernel = found["pre_logits"]["kernel"]
    assert 0.5 < kernel.std() * np.sqrt(8) < 1.5  # LeCun's initial values
    assert not np.array_equal(kernel, adapt(params, without, with_it, head="reset", seed=1)[0]["pre_logits"]["kernel"])
    assert_same(found, adapt(params, without, with_it, head="reset")[0])


@pytest.mark.parametrize("head", ["keep", "resize"])
@pytest.mark.parametrize("pre_logits", [True, False])
def test_a_classifier_does_not_outlive_its_features(head, pre_logits):
    source, target = vit(pre_logits=pre_logits), vit(pre_logits=not pre_logits)
    with pytest.raises(BadSetting, match=f"head = '{head}': .*pre_logits.*reset it"):
        adapt(random_params(source), source, target, head=head)


@pytest.mark.parametrize("classes", [2, 5])
def test_keep_refuses_another_number_of_classes(classes):
    source = vit()
    with pytest.raises(BadSetting, match=f"head = 'keep': the file's has 3 classes and the model {classes}"):
        adapt(random_params(source), source, vit(classes=classes))


@pytest.mark.parametrize(
    ("head", "source_classes"), [("reset", 0), ("reset", 3), ("reset", 5), ("keep", 0), ("resize", 0)]
)
@pytest.mark.parametrize("bias", [0.0, -10.0])
def test_reset_or_a_file_without_classes_starts_the_classifier_anew(head, source_classes, bias):
    source, target = vit(classes=source_classes), vit(classes=5, head_bias=bias)
    params = random_params(source)
    found, report = adapt(params, source, target, head=head)
    check_fits(found, target)
    assert not found["head"]["kernel"].any()
    np.testing.assert_array_equal(found["head"]["bias"], np.full(5, bias, np.float32))
    assert (report.reset, report.resized, report.ignored) == (("head/kernel", "head/bias"), {}, ())
    without = [{name: value for name, value in side.items() if name != "head"} for side in (found, params)]
    assert_same(*without)


@pytest.mark.parametrize("head", ["keep", "reset", "resize"])
def test_a_target_without_classes_leaves_the_classifier(head):
    source, target = vit(), vit(classes=0)
    found, report = adapt(random_params(source), source, target, head=head)
    check_fits(found, target)
    assert report.ignored == ("head/kernel", "head/bias")


@pytest.mark.parametrize(
    ("theirs", "ours", "places", "kept"),
    [
        ("abc", "cxa", {0: 2, 2: 0}, 2),
        ("abc", "defgh", {}, 0),
        ("abc", "c", {0: 2}, 1),
        ("", "", {0: 0, 1: 1, 2: 2}, 3),  # no names: by number; five classes
        ("abc", "", {0: 0, 1: 1, 2: 2}, 3),
        ("aba", "aab", {0: 0, 1: 2, 2: 1}, 3),  # ImageNet has two cranes
        ("aba", "aaa", {0: 0, 1: 2}, 2),
    ],
)
@pytest.mark.parametrize(
    "model", [vit, lambda **options: Model(ModelSettings("R50x1", trunk_units=(1,)), (8, 8), 3, **options)]
)
def test_resize_keeps_classes_of_the_same_name(theirs, ours, places, kept, model):
    source, target = model(classes=3), model(classes=len(ours) or 5)
    params = random_params(source)
    found, report = adapt(params, source, target, head="resize", labels=(theirs, ours))
    check_fits(found, target)
    for new in range(target.classes):
        kernel, bias = found["head"]["kernel"][:, new], found["head"]["bias"][new]
        if new in places:
            np.testing.assert_array_equal(kernel, params["head"]["kernel"][:, places[new]])
            assert bias == params["head"]["bias"][places[new]]
        else:
            assert not kernel.any()
            assert bias == 0
    how = f"{kept} of {target.classes} classes kept"
    assert report.resized == {"head/kernel": how, "head/bias": how}
    unchanged(found, params, "head/kernel", "head/bias")


def test_names_must_be_as_many_as_classes():
    source = vit()
    with pytest.raises(UserError, match="4 and 3 class names for 3 and 3 classes"):
        adapt(random_params(source), source, source, head="resize", labels=("abcd", "abc"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"head": "drop"}, "head = 'drop': must be one of keep, reset, resize"),
        ({"method": "nearest"}, "method = 'nearest': must be one of bilinear, bicubic"),
    ],
)
def test_unknown_options_are_refused(options, says):
    with pytest.raises(BadSetting, match=says):
        adapt(random_params(vit()), vit(), vit(), **options)


def test_models_of_different_sizes_are_refused_with_both_sides():
    source = vit()
    target = vit(registers=2, mlp_dim=10)
    with pytest.raises(UserError) as caught:
        adapt({**random_params(source), "more": np.ones(1, np.float32)}, source, target)
    assert str(caught.value) == (
        "the weights do not fit the model: they lack registers; they have besides more; shapes differ: "
        "blocks/mlp/dense1/bias is (2, 12), not (2, 10), blocks/mlp/dense1/kernel is (2, 8, 12), not (2, 8, 10), "
        "blocks/mlp/dense2/kernel is (2, 12, 8), not (2, 10, 8)"
    )


def test_parameters_that_are_not_of_the_source_are_refused():
    with pytest.raises(UserError, match=r"shape \(6, 8\) do not belong to a 4x4 grid"):
        adapt(random_params(vit()), vit((16, 16)), vit())


def test_learned_tables_do_not_become_others():
    with pytest.raises(
        UserError, match=r"they lack pos_embedding_., pos_embedding_.; they have besides pos_embedding$"
    ):
        adapt(random_params(vit()), vit(), vit(posemb="learned_2d"))


def test_hybrids_and_resnets_of_another_size():
    hybrid = Model(ModelSettings("R50+mu/16", trunk_units=(1,), width=8), (8, 8), 3, 3)
    larger = dataclasses.replace(hybrid, image_size=(8, 20))
    params = random_params(hybrid)
    found, report = adapt(params, hybrid, larger)
    expected = bilinear(params["pos_embedding"][0, 1:], (2, 2), (2, 5))
    np.testing.assert_allclose(found["pos_embedding"][0, 1:], expected, rtol=1e-5, atol=1e-6)
    assert report.resized == {"pos_embedding": "2x2 to 2x5, bilinear"}
    unchanged(found, params, "pos_embedding")
    resnet = Model(ModelSettings("R50x1", trunk_units=(1,)), (8, 8), 3, 3)
    params = random_params(resnet)
    found, report = adapt(params, resnet, dataclasses.replace(resnet, image_size=(32, 8)))
    assert_same(found, params)
    assert report == Report(tuple(resnet.shapes))


def test_what_is_given_is_not_changed():
    source, target = vit(), vit((16, 16), classes=5)
    params = random_params(source)
    adapt(params, source, target, head="resize")
    assert_same(params, random_params(source))


def test_the_report_has_a_line_for_each_kind():
    report = Report(("a", "b"), ("c",), {"d": "2x2 to 3x3, bilinear"}, tuple("efghij"))
    assert report.lines() == [
        "loaded    2 parameters",
        "reset     c",
        "resized   d (2x2 to 3x3, bilinear)",
        "ignored   e, f, g, h and 2 more",
    ]
    assert Report(("a",)).lines() == ["loaded    1 parameters"]
