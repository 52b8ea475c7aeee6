"""The model behind a file's shapes: every released one by its name, any other by its sizes, none for nonsense."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoint import released
from vit_jax.checkpoint.infer import infer_model
from vit_jax.checkpoint.layouts import Hints
from vit_jax.errors import UserError
from vit_jax.models import ENCODERS, RESNETS, EncoderShape, Model, ModelSettings


def inferred(shapes: dict, **hints) -> Model:
    return infer_model(shapes, Hints(**hints), "file.npz")


def sizes(shape: EncoderShape) -> dict[str, int]:
    """As the tables want them."""
    return {"width": shape.width, "depth": shape.depth, "mlp": shape.mlp_dim, "heads": shape.heads}


def like_22b(shapes: dict) -> dict:
    """What arXiv 2302.05442 changes: parallel, queries and keys normalised, fewer biases."""
    kept = {name: shape for name, shape in shapes.items() if "blocks/norm2" not in name}
    for name in ("blocks/norm1/bias", "norm/bias", *(f"blocks/attn/{part}/bias" for part in ("query", "key", "value"))):
        del kept[name]
    layers, _, _, head_dim = shapes["blocks/attn/query/kernel"]
    norms = {f"blocks/attn/{part}_norm/scale": (layers, head_dim) for part in ("query", "key")}
    return {**kept, **norms}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_vit_is_recognised_by_its_name(name):
    change = like_22b if name == "22B" else dict
    for patch in (2, 8, 14, 16, 32, 999):
        for grid in (1, 7, 24):
            table = released.vit(**sizes(ENCODERS[name]), patch=patch, rows=grid**2 + 1, classes=21_843)
            settings = ModelSettings(f"{name}/{patch}", pool="token")
            assert inferred(change(released.our_shapes(table))) == Model(settings, (grid * patch,) * 2, 3, 21_843)


@pytest.mark.parametrize("layers", RESNETS)
@pytest.mark.parametrize("factor", [1, 3])
def test_every_hybrid_is_recognised_by_its_name(layers, factor):
    one, two, three, four = RESNETS[layers]
    by_stride = {16: (one, two, three + four), 32: (one, two, three, four)}
    trunks = {
        stride: released.our_shapes(released.post_activation(by_stride[stride], factor=factor)) for stride in (16, 32)
    }
    for name in set(ENCODERS) - {"22B"}:
        for stride, trunk in trunks.items():
            channels = trunk[f"trunk/block{len(by_stride[stride])}/unit1/conv3/kernel"][-1]
            encoder = released.vit(**sizes(ENCODERS[name]), patch=1, rows=50, channels=channels)
            variant = f"R{layers}{'' if factor == 1 else 'x3'}+{name}/{stride}"
            expected = Model(ModelSettings(variant, pool="token"), (7 * stride,) * 2, 3, 1000)
            assert inferred({**trunk, **released.our_shapes(encoder)}) == expected


@pytest.mark.parametrize("name", ["Ti", "B", "L"])
def test_a_root_with_an_encoder_is_the_hybrid_without_a_number(name):
    table = released.hybrid((), **sizes(ENCODERS[name]), patch=8, rows=145)
    expected = Model(ModelSettings(f"R+{name}/16", pool="token"), (384, 384), 3, 1000)
    assert inferred(released.our_shapes(table)) == expected


@pytest.mark.parametrize("layers", RESNETS)
@pytest.mark.parametrize("factor", [1, 2, 4, 7])
def test_every_bit_resnet_is_recognised_by_its_name(layers, factor):
    table = released.bit(RESNETS[layers], factor=factor, channels=4)
    assert inferred(released.our_shapes(table)) == Model(ModelSettings(f"R{layers}x{factor}"), (224, 224), 4, 1000)


@pytest.mark.parametrize(
    ("variant", "rows", "pixels"),
    [
        *(("B/16", 197, 224), ("B/16", 577, 384), ("B/32", 50, 224), ("B/32", 145, 384)),
        *(("B/8", 785, 224), ("B/8", 2305, 384), ("H/14", 257, 224), ("H/14", 1370, 518)),
        *(("R50+B/16", 197, 224), ("R50+B/16", 577, 384), ("R26+S/32", 50, 224), ("R26+S/32", 145, 384)),
        *(("R+Ti/16", 50, 224), ("R+Ti/16", 145, 384), ("R50+L/32", 50, 224)),
    ],
)
def test_rows_of_positions_tell_the_image_size_as_published(variant, rows, pixels):
    *trunk, encoder = variant.split("+")
    name, number = encoder.split("/")
    if trunk:
        units = {"R50+B/16": (3, 4, 9), "R26+S/32": (2, 2, 2, 2), "R50+L/32": (3, 4, 6, 3), "R+Ti/16": ()}[variant]
        table = released.hybrid(units, **sizes(ENCODERS[name]), patch=1 if units else 8, rows=rows)
    else:
        table = released.vit(**sizes(ENCODERS[name]), patch=int(number), rows=rows)
    model = inferred(released.our_shapes(table))
    assert (model.settings.variant, model.image_size) == (variant, (pixels, pixels))


@pytest.mark.parametrize("pool", ["token", "gap", "map"])
@pytest.mark.parametrize("pre_logits", [False, True])
@pytest.mark.parametrize(("channels", "classes"), [(1, 0), (13, 1)])
def test_pooling_head_channels_and_classes(pool, pre_logits, channels, classes):
    options = {"pool": pool, "pre_logits": pre_logits, "channels": channels, "classes": classes}
    table = released.vit(**sizes(ENCODERS["B"]), patch=16, rows=196 + (pool == "token"), **options)
    expected = Model(ModelSettings("B/16", pool=pool, pre_logits=pre_logits), (224, 224), channels, classes)
    assert inferred(released.our_shapes(table)) == expected


@settings(deadline=None, max_examples=60)
@given(
    head_dim=st.integers(1, 80),
    heads=st.integers(1, 20),
    depth=st.integers(1, 60),
    mlp=st.integers(1, 9000),
    patch=st.integers(1, 40),
    side=st.integers(1, 20),
    channels=st.integers(1, 9),
    units=st.none() | st.lists(st.integers(1, 40), max_size=4),
    factor=st.integers(1, 5),
)
def test_any_sizes_are_found(head_dim, heads, depth, mlp, patch, side, channels, units, factor):
    size = {"width": head_dim * heads, "depth": depth, "mlp": mlp, "heads": heads, "patch": patch}
    if units is None:
        table = released.vit(**size, rows=side**2 + 1, channels=channels)
    else:
        table = released.hybrid(units, factor=factor, channels=channels, **size, rows=side**2 + 1)
    model = inferred(released.our_shapes(table))
    found = model.settings.resolved
    expected = (head_dim * heads, depth, mlp, heads, False, False, True, "layer")
    assert dataclasses.astuple(found.encoder) == expected
    assert found.patch == patch
    assert model.grid == (side, side)
    assert model.channels == channels
    if units is not None:
        assert dataclasses.astuple(found.trunk) == (tuple(units), factor, 1)


@given(units=st.lists(st.integers(1, 40), min_size=1, max_size=4), factor=st.integers(1, 9), version=st.integers(1, 2))
@settings(deadline=None, max_examples=40)
def test_any_resnet_is_found(units, factor, version):
    if version == 2:
        shapes = released.our_shapes(released.bit(units, factor=factor))
    else:
        head = {"head/kernel": (256 * factor * 2 ** (len(units) - 1), 1000), "head/bias": (1000,)}
        shapes = {**released.our_shapes(released.post_activation(units, factor=factor)), **head}
    model = inferred(shapes)
    assert dataclasses.astuple(model.settings.resolved) == (None, 1, (tuple(units), factor, version))
    assert (model.image_size, model.channels, model.classes) == ((224, 224), 3, 1000)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"depth": 7}, {"variant": "B/16", "depth": 7}),
        ({"heads": 6}, {"variant": "B/16", "heads": 6}),
        ({"mlp": 1000}, {"variant": "B/16", "mlp_dim": 1000}),
    ],
)
def test_a_model_near_a_named_one_is_described_as_it_with_overrides(change, expected):
    table = released.vit(**{**sizes(ENCODERS["B"]), **change}, patch=16, rows=197)
    assert inferred(released.our_shapes(table)).settings == ModelSettings(**expected, pool="token")


def test_a_trunk_that_is_not_named_is_described_by_overrides():
    table = released.hybrid((3, 4, 5), **sizes(ENCODERS["B"]), patch=2, rows=50)
    model = inferred(released.our_shapes(table))
    assert model.settings.variant == "R50+B/16"
    assert (model.settings.trunk_units, model.settings.patch, model.image_size) == ((3, 4, 5), 2, (224, 224))
    assert model.settings.width is None


SMALL = {"width": 16, "depth": 2, "mlp_dim": 24, "heads": 2}
OWN = [
    {"registers": 3},
    {"registers": 3, "pool": "gap"},
    {"qk_norm": True},
    {"qkv_bias": False},
    {"norm": "rms"},
    {"parallel": True},
    {"parallel": True, "qk_norm": True, "qkv_bias": False, "norm": "rms", "pool": "map"},
    {"layer_scale": 1e-5},
    {"axial": True, "pool": "gap"},
    {"axial": True, "pool": "map", "qk_norm": True, "layer_scale": 1e-5},
    {"axial": True, "pool": "gap", "posemb_at": "every_layer"},
    {"posemb_at": "every_layer"},
    {"posemb": "learned_2d"},
    {"posemb": "learned_2d", "posemb_at": "every_layer", "pool": "gap"},
    {"posemb": "relative"},
    {"posemb": "relative", "registers": 2, "pool": "map"},
    {"posemb": "relative", "posemb_at": "every_layer"},
]


@pytest.mark.parametrize("options", OWN, ids=str)
def test_our_own_options_are_found(options):
    # Only tables by rows and columns tell a picture that is not square.
    size = (8, 12) if options.get("posemb") == "learned_2d" else (12, 12)
    model = Model(ModelSettings("mu/4", **{"pool": "token", **SMALL, **options}), size, 3, 5)
    found = inferred(model.shapes)
    assert found.settings.resolved == model.settings.resolved
    sizes_and_variant = dict.fromkeys(
        ("variant", "width", "depth", "mlp_dim", "heads", "parallel", "qk_norm", "qkv_bias", "norm")
    )
    found_rest, rest = (
        {name: value for name, value in vars(m.settings).items() if name not in sizes_and_variant}
        for m in (found, model)
    )
    assert found_rest == rest
    assert (found.image_size, found.channels, found.classes) == (size, 3, 5)


@pytest.fixture
def tiny():
    return released.our_shapes(released.vit(**released.TINY))


def test_what_is_known_besides_the_shapes_wins(tiny):
    model = inferred(tiny, settings={"gelu": "erf", "norm_epsilon": 1e-12, "layer_scale": 0})
    assert (model.settings.gelu, model.settings.norm_epsilon) == ("erf", 1e-12)
    assert type(model.settings.layer_scale) is float
    assert inferred(tiny, image_size=(4, 16)).image_size == (4, 16)


def refusal(shapes: dict, **hints) -> str:
    with pytest.raises(UserError) as caught:
        inferred(shapes, **hints)
    assert str(caught.value).startswith("file.npz ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_positions_there_is_no_image_size(tiny):
    del tiny["pos_embedding"]
    assert "no table of positions: say what it has" in refusal(tiny)
    assert inferred(tiny, image_size=(8, 12), settings={"posemb": "none"}).settings.posemb == "none"
    assert inferred(tiny, image_size=(8, 12), settings={"posemb": "sincos_2d"}).settings.posemb == "sincos_2d"


def test_positions_that_fill_no_square_are_refused_unless_the_size_is_known(tiny):
    tiny["pos_embedding"] = (1, 7, 8)
    assert "6 position embeddings do not fill a square grid" in refusal(tiny)
    assert inferred(tiny, image_size=(8, 12)).grid == (2, 3)


@pytest.mark.parametrize("name", ["blocks/attn/query/kernel", "blocks/mlp/dense1/kernel"])
def test_arrays_that_a_model_needs(tiny, name):
    del tiny[name]
    assert f"lacks '{name}', so it is no ViT" in refusal(tiny)


def test_nothing_at_all():
    assert "lacks 'embedding/kernel'" in refusal({})


@pytest.mark.parametrize("name", ["embedding/kernel", "blocks/attn/query/kernel", "pos_embedding", "head/kernel"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_arrays_of_strange_dimensions(tiny, name, shape):
    if (name, shape) == ("head/kernel", (3,)):
        assert inferred({**tiny, name: shape}).classes == 3  # comparing all shapes comes later
        return
    assert "numbers of dimensions" in refusal({**tiny, name: shape})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"embedding/kernel": (0, 0, 3, 8)}, "patch|variant"),
        ({"embedding/kernel": (4, 4, 3, 9)}, "must divide the width 9"),
        ({"embedding/kernel": (4, 4, 3, 0)}, "width = 0"),
        ({"blocks/attn/query/kernel": (0, 8, 2, 4)}, "depth = 0"),
        ({"blocks/attn/query/kernel": (3, 8, 0, 4)}, "heads = 0"),
        ({"pos_embedding": (1, 1, 8)}, "0 position embeddings"),
        ({"trunk/root/kernel": (7, 7, 3, 8), "trunk/root_norm/scale": (8,)}, "trunk_width|variant"),
    ],
)
def test_sizes_that_no_model_has(tiny, change, says):
    message = refusal({**tiny, **change})
    assert any(word in message for word in says.split("|")), message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"head": 3}, 'unknown key; did you mean "heads"'),
        ({"heads": 3}, "must divide the width 8"),
        ({"gelu": "relu"}, "must be one of tanh, erf"),
        ({"depth": "3"}, "must be int, not str"),
        ({"pool": "gap"}, "5 position embeddings do not fill a square"),
    ],
)
def test_settings_that_do_not_fit(tiny, settings, says):
    assert says in refusal(tiny, settings=settings)


def test_a_given_image_size_settles_what_the_number_of_positions_leaves_open():
    model = Model(ModelSettings("mu/4"), (8, 24), 3, 5)
    assert infer_model(model.shapes, Hints(), "f", (8, 24)).image_size == (8, 24)
    square = Model(ModelSettings("mu/4"), (16, 16), 3, 5)
    assert infer_model(square.shapes, Hints(), "f", (8, 32)).image_size == (16, 16)  # a square is resized
    assert infer_model(square.shapes, Hints(), "f", (32, 32)).image_size == (16, 16)  # of another number of patches
    plain = Model(ModelSettings("mu/4", posemb="sincos_2d"), (8, 24), 3, 5)
    found = infer_model(plain.shapes, Hints(settings={"posemb": "sincos_2d"}), "f", (8, 24))
    assert found == plain.__class__(found.settings, (8, 24), 3, 5)
