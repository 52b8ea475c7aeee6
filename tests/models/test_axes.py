"""Logical axes: every dimension of every parameter has a name, and the right one."""

import itertools
import math

import jax
import numpy as np
import pytest

from vit_jax import parallel
from vit_jax.errors import UserError
from vit_jax.models import ENCODERS, Model, ModelSettings
from vit_jax.models.axes import logical_axes
from vit_jax.models.settings import POSEMBS
from vit_jax.trees import named_leaves

from .reference import random_images, random_params

CHANNELS, CLASSES = 3, 11


def model_of(variant="mu/7", **options):
    return Model(ModelSettings(variant, **options), (35, 21), CHANNELS, CLASSES)


def tokens_of(name, model):
    settings, cls = model.settings, int(model.settings.pooling == "token")
    return {
        "cls": 1,
        "registers": settings.registers,
        "pos_embedding": math.prod(model.grid) + cls,
        "pos_embedding_y": model.grid[0],
        "pos_embedding_x": model.grid[1],
        "relative_embedding": 2 * model.tokens - 1,
        "probe": 1,
    }[name.split("/")[-1]]


def check(model):
    """Every parameter of an encoder has names whose sizes are its dimensions."""
    shape, settings = model.settings.resolved.encoder, model.settings
    sizes = {
        "layers": shape.depth,
        "embed": shape.width,
        "embed_out": shape.width,
        "patch_embed": shape.width,
        "mlp": shape.mlp_dim,
        "heads": shape.heads,
        "head_dim": shape.width // shape.heads,
        "patch": settings.resolved.patch,
        "channels": CHANNELS,
        "classes": CLASSES,
        "one": 1,
    }
    axes = model.logical_axes
    assert set(axes) == set(model.shapes)
    for name, dimensions in model.shapes.items():
        if name.startswith("trunk/"):
            continue
        known = {**sizes, "norm": sizes["head_dim"] if "query_norm" in name or "key_norm" in name else shape.width}
        if "tokens" in axes[name]:
            known["tokens"] = tokens_of(name, model)
        if name.endswith(("embedding_x", "embedding_y")):
            known["embed"] = shape.width // 2
        if name == "embedding/kernel" and settings.resolved.trunk:
            known["channels"] = dimensions[2]
        assert dimensions == tuple(known[axis] for axis in axes[name]), name


@pytest.mark.parametrize("pool", ["token", "gap"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_of_every_encoder_is_covered_by_names_that_fit_its_sizes(encoder, pool):
    check(model_of(f"{encoder}/7", pool=pool, pre_logits=pool == "token"))


@pytest.mark.parametrize("options", [{"depth": 3}, {"depth": 3, "variant": "22B/7", "width": 96, "heads": 4}])
@pytest.mark.parametrize("kind", POSEMBS)
def test_every_parameter_of_every_combination_of_options_is_covered(kind, options):
    for pool, at in [
        ("token", "stem"),
        ("map", "every_layer"),
        ("gap", "shared"),
        ("first", "stem"),
        ("none", "every_layer"),
    ]:
        extra = {"registers": 2, "layer_scale": 0.1, "pre_logits": True} if at != "shared" else {}
        check(model_of(pool=pool, posemb=kind, posemb_at=at, **extra, **options))


@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "layer_scale": 0.1}, {"norm": "rms", "qkv_bias": False}])
def test_every_parameter_of_axial_models_is_covered(options):
    for pool, kind in itertools.product(("gap", "map", "none"), ("learned_1d", "learned_2d")):
        check(model_of(axial=True, depth=3, pool=pool, posemb=kind, posemb_at="every_layer", **options))


def test_every_parameter_of_hybrids_is_covered():
    for units, pool in itertools.product([(), (1,), (1, 3)], ["token", "map"]):
        check(model_of("R26+mu/16", trunk_units=units, pool=pool, depth=3))


@pytest.mark.parametrize("version", [1, 2])
def test_convolutions_split_their_outputs(version):
    model = model_of("R26x1", trunk_units=(1, 3), trunk_version=version)
    for name, axes in model.logical_axes.items():
        dimensions = len(model.shapes[name])
        kernel = ("kernel_height", "kernel_width", "conv_in", "conv_out")[: 4 if name.endswith("kernel") else 0]
        plain = {"head/kernel": ("embed", "classes"), "head/bias": ("classes",)}.get(name, kernel or ("norm",))
        assert axes == (("layers",) if "/units/" in name else ()) + plain
        assert dimensions == len(axes)


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("mu/7", {"posemb_at": "every_layer", "registers": 1, "pool": "map", "layer_scale": 0.1}),
        ("mu/7", {"axial": True, "pool": "gap", "posemb": "learned_2d", "posemb_at": "every_layer"}),
        ("mu/7", {"posemb": "relative", "posemb_at": "shared"}),
        ("R26+mu/16", {"trunk_units": (1, 3)}),
    ],
)
def test_stacked_are_exactly_the_parameters_that_grow_with_the_depth(variant, options):
    def shapes(more):
        units = tuple(units + more for units in options.get("trunk_units", ()))
        trunk = {"trunk_units": units} if units else {}
        return model_of(variant, **{**options, **trunk, "depth": 2 + more}).shapes

    short, longer = shapes(1), shapes(2)  # every stage has two units at least, so both have the same names
    assert set(short) == set(longer)
    grow = {name for name in short if short[name] != longer[name]}
    assert {name for name, axes in logical_axes(short).items() if "layers" in axes} == grow
    for name in grow:
        assert logical_axes(short)[name].index("layers") == 0
        assert (short[name][0] + 1, *short[name][1:]) == longer[name]


def test_a_rule_with_too_few_names_is_a_bug():
    with pytest.raises(ValueError, match=r"head/kernel has shape \(3,\)"):
        logical_axes({"head/kernel": (3,)})


def test_a_parameter_without_a_rule_is_named():
    with pytest.raises(UserError, match="'blocks/gate/kernel'"):
        logical_axes({"blocks/gate/kernel": (1, 2, 3)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "options", "split"),
    [
        ("R26+mu/16", {"trunk_units": (1, 1, 1)}, "trunk/block3/unit1/conv2/kernel"),
        ("mu/4", {"axial": True, "pool": "gap", "posemb_at": "every_layer"}, "blocks/column/attn/query/kernel"),
    ],
)
def test_a_gradient_on_data_x_fsdp_x_tensor_is_that_of_one_device(variant, options, split):
    settings = ModelSettings(variant, width=64, mlp_dim=128, heads=4, depth=2, remat="none", **options)
    model = Model(settings, (16, 24) if "+" in variant else (8, 12), 3, 8)
    params, images = random_params(model), random_images(model, 8)

    def gradient_with(**constrain):
        def loss(params, images):
            return (model.apply(params, images, **constrain)["logits"] ** 2).mean()

        return jax.jit(jax.value_and_grad(loss))

    loss, gradient = gradient_with()(params, images)
    mesh = parallel.make_mesh(parallel.MeshSettings(data=2, fsdp=2, tensor=2))
    shardings = parallel.state_shardings(model.abstract_params, model.shapes, model.logical_axes, mesh)
    placed = parallel.on_mesh(params, shardings)
    step = gradient_with(constrain=parallel.constrain_on(mesh))
    found_loss, found = step(placed, jax.device_put(images, parallel.batch_sharding(mesh)))
    assert not named_leaves(placed)[split].sharding.is_fully_replicated
    assert float(found_loss) == pytest.approx(float(loss), rel=1e-5)
    for name, leaf in named_leaves(gradient).items():
        scale = float(np.abs(leaf).max())
        np.testing.assert_allclose(named_leaves(found)[name], leaf, rtol=1e-3, atol=1e-4 * scale + 1e-7, err_msg=name)
