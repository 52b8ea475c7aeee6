"""The Vision Transformer against an independent NumPy version of its equations, and how it starts."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import Model, ModelSettings
from vit_jax.trees import named_leaves

from . import reference
from .reference import PATCHES, forward_batch, random_images, random_params, small, zero_params

LIKE_22B = {"parallel": True, "qk_norm": True, "qkv_bias": False, "norm": "rms"}

OPTIONS = {
    "token": {},
    "gap": {"pool": "gap"},
    "token, pre-logits": {"pre_logits": True},
    "gap, registers": {"pool": "gap", "registers": 2},
    "map, registers": {"pool": "map", "registers": 2},
    "first, registers": {"pool": "first", "registers": 2},
    "none, registers, pre-logits": {"pool": "none", "registers": 2, "pre_logits": True},
    "22B": {"variant": "22B/4"},
    "parallel map, layer scale": {**LIKE_22B, "pool": "map", "layer_scale": 0.5},
    "layer scale": {"layer_scale": 0.5},
    "query and key norm": {"qk_norm": True},
    "exact GELU": {"gelu": "erf", "pool": "map"},
    "axial": {"axial": True, "pool": "gap"},
    "axial, 22B's norms": {"axial": True, "pool": "map", **LIKE_22B, "parallel": False, "layer_scale": 0.5},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_features_are_those_of_the_papers_equations(name):
    model = small(**OPTIONS[name])
    params, images = random_params(model), random_images(model, 2)
    expected = forward_batch(params, images, model.settings)
    assert expected["logits"].std() > 0.1
    features = model.apply(params, images)
    np.testing.assert_allclose(features["tokens"], expected["tokens"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features["pre_logits"], expected["pre_logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features["logits"], expected["logits"], rtol=2e-5, atol=2e-5)


def test_parameters_of_a_22b_have_the_documented_names_and_shapes():
    assert small("22B/4").shapes == {
        "cls": (1, 1, 16),
        "pos_embedding": (1, 7, 16),
        "embedding/kernel": (4, 4, 3, 16),
        "embedding/bias": (16,),
        "blocks/norm1/scale": (2, 16),
        **{f"blocks/attn/{name}/kernel": (2, 16, 4, 4) for name in ("query", "key", "value")},
        **{f"blocks/attn/{name}_norm/scale": (2, 4) for name in ("query", "key")},
        "blocks/attn/out/kernel": (2, 4, 4, 16),
        "blocks/attn/out/bias": (2, 16),
        "blocks/mlp/dense1/kernel": (2, 16, 24),
        "blocks/mlp/dense1/bias": (2, 24),
        "blocks/mlp/dense2/kernel": (2, 24, 16),
        "blocks/mlp/dense2/bias": (2, 16),
        "norm/scale": (16,),
        "head/kernel": (16, 7),
        "head/bias": (7,),
    }


def test_parameters_have_the_documented_names_and_shapes():
    names = {"pre_logits/kernel": (16, 16), "pre_logits/bias": (16,), "registers": (1, 2, 16)}
    names |= {"blocks/scale1": (2, 16), "blocks/scale2": (2, 16)}
    for layer_norm in ("blocks/norm1", "blocks/norm2"):
        names |= {f"{layer_norm}/scale": (2, 16), f"{layer_norm}/bias": (2, 16)}
    for part in ("query", "key", "value"):
        names |= {f"blocks/attn/{part}/kernel": (2, 16, 4, 4), f"blocks/attn/{part}/bias": (2, 4, 4)}
    names |= {"blocks/attn/out/kernel": (2, 4, 4, 16), "blocks/attn/out/bias": (2, 16)}
    names |= {"blocks/mlp/dense1/kernel": (2, 16, 24), "blocks/mlp/dense1/bias": (2, 24)}
    names |= {"blocks/mlp/dense2/kernel": (2, 24, 16), "blocks/mlp/dense2/bias": (2, 16)}
    names |= {"embedding/kernel": (4, 4, 3, 16), "embedding/bias": (16,), "norm/scale": (16,), "norm/bias": (16,)}
    names |= {"cls": (1, 1, 16), "pos_embedding": (1, 7, 16), "head/kernel": (16, 7), "head/bias": (7,)}
    model = small(registers=2, layer_scale=0.1, pre_logits=True)
    assert model.shapes == names
    axial = {}
    for name, shape in names.items():
        halves = [name.replace("blocks", f"blocks/{half}") for half in ("row", "column")]
        axial |= dict.fromkeys(halves, shape)
    del axial["cls"], axial["registers"]
    axial["pos_embedding"] = (1, 6, 16)
    assert small(axial=True, pool="gap", layer_scale=0.1, pre_logits=True).shapes == axial


@pytest.mark.parametrize("pool", ["token", "gap"])
def test_a_fresh_model_starts_as_the_paper_says(pool):
    settings = ModelSettings(
        "B/4", depth=2, width=96, mlp_dim=192, heads=4, pre_logits=True, head_bias=-10.0, pool=pool
    )
    params = jax.jit(Model(settings, (32, 32), 3, 7).init)(jax.random.key(0))
    named = {name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}

    def xavier(name, fan_in, fan_out):
        values, bound = named.pop(name), np.sqrt(6 / (fan_in + fan_out))
        assert np.abs(values).max() <= bound, name
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.02), name

    def normal(name, std):
        values = named.pop(name)
        assert values.std() == pytest.approx(std, rel=0.1), name
        assert abs(values.mean()) < 5 * std / np.sqrt(values.size), name

    for name in ("query", "key", "value", "out"):
        xavier(f"blocks/attn/{name}/kernel", 96, 96)
    xavier("blocks/mlp/dense1/kernel", 96, 192)
    xavier("blocks/mlp/dense2/kernel", 192, 96)
    normal("blocks/mlp/dense1/bias", 1e-6)
    normal("blocks/mlp/dense2/bias", 1e-6)
    normal("pos_embedding", 0.02)
    normal("embedding/kernel", 1 / np.sqrt(4 * 4 * 3))
    normal("pre_logits/kernel", 1 / np.sqrt(96))
    np.testing.assert_array_equal(named.pop("head/bias"), -10.0)
    for name, values in named.items():  # head kernel, class token, all other biases, scales
        np.testing.assert_array_equal(values, 1.0 if name.endswith("scale") else 0.0, err_msg=name)
    assert {"head/kernel", "blocks/attn/out/bias", "blocks/norm1/scale"} <= set(named)
    assert ("cls" in named) == (pool == "token")


def test_registers_start_like_positions_and_layer_scale_at_its_setting():
    model = small(registers=100, layer_scale=1e-4, width=64)
    params = jax.jit(model.init)(jax.random.key(0))
    assert float(params["registers"].std()) == pytest.approx(0.02, rel=0.05)
    for name in ("scale1", "scale2"):
        np.testing.assert_array_equal(params["blocks"][name], np.float32(1e-4))


def test_initialisation_depends_on_the_key_alone():
    init = jax.jit(small().init)
    first, again, other = (named_leaves(init(jax.random.key(seed))) for seed in (0, 0, 1))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["pos_embedding"] != other["pos_embedding"]).all()


# --- dtypes ---


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_are_float32_also_when_bfloat16_computes(name):
    params = small(**OPTIONS[name], dtype="bfloat16").abstract_params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}


def test_bfloat16_computes_the_same_in_half_the_bits():
    exact, fast = small(pre_logits=True), small(pre_logits=True, dtype="bfloat16")
    params, images = random_params(exact), random_images(exact)

    def loss(params, model):
        features = model.apply(params, images)
        return (features["logits"] ** 2).mean(), features

    run = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, wanted), wanted_gradient = run(params, exact)
    (_, features), gradient = run(params, fast)
    assert {name: feature.dtype.name for name, feature in features.items()} == {
        "stem": "bfloat16",
        "tokens": "bfloat16",
        "pre_logits": "bfloat16",
        "logits": "float32",
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype("float32")}
    np.testing.assert_allclose(features["logits"], wanted["logits"], rtol=0.05, atol=0.05)
    for name, leaf in named_leaves(gradient).items():
        expected = np.asarray(named_leaves(wanted_gradient)[name])
        assert np.linalg.norm(leaf - expected) < 0.1 * np.linalg.norm(expected) + 1e-3, name


@pytest.mark.parametrize(
    "options",
    [
        {**LIKE_22B, "pool": "map", "registers": 2, "layer_scale": 0.5, "posemb": "learned_2d", "posemb_at": "shared"},
        {"posemb": "relative", "posemb_at": "every_layer", "pool": "gap"},
        {"axial": True, "pool": "gap", "posemb": "sincos_2d", "posemb_at": "every_layer"},
    ],
)
def test_bfloat16_computes_nearly_the_same_with_options(options):
    model = small(**options, dtype="bfloat16")
    params, images = random_params(model), random_images(model)
    found = jax.jit(model.apply, static_argnames="blocks")(params, images, blocks=True)
    dtypes = {name: {leaf.dtype.name for leaf in jax.tree.leaves(feature)} for name, feature in found.items()}
    assert dtypes == {name: {"float32" if name == "logits" else "bfloat16"} for name in found}
    wanted = forward_batch(params, images, model.settings)["logits"]
    assert np.linalg.norm(found["logits"] - wanted) < 0.03 * np.linalg.norm(wanted)


def test_logits_are_not_rounded_to_the_compute_dtype():
    model = Model(ModelSettings("mu/2", dtype="bfloat16", scan=False), (8, 8), 3, 10)
    params = random_params(model)
    params["head"]["kernel"] = jax.random.normal(jax.random.key(1), params["head"]["kernel"].shape)
    logits = jax.jit(model.apply)(params, jax.random.normal(jax.random.key(2), (4, 8, 8, 3)))["logits"]
    assert (logits != logits.astype(jnp.bfloat16).astype(jnp.float32)).any()


# --- randomness ---


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.4}, {"attention_dropout": 0.4}, {"stochastic_depth": 0.6}, {"patch_dropout": 0.5}],
    ids=lambda options: next(iter(options)),
)
def test_dropout_of_each_kind_is_off_without_a_key_and_random_with_one(options):
    plain, dropping = small(), small(**options)
    params, images = random_params(plain), random_images(plain, 2)
    np.testing.assert_array_equal(dropping.apply(params, images)["logits"], plain.apply(params, images)["logits"])
    images = random_images(plain, 16)
    expected = forward_batch(params, images, plain.settings)["logits"]
    apply = jax.jit(dropping.apply)
    one, same, two = (apply(params, images, dropout_key=jax.random.key(seed))["logits"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != two).any(axis=1).mean() > 0.5  # of the images: two draws may be alike
    assert (np.abs(one - expected).max(axis=1) > 1e-3).mean() > 0.5


@pytest.mark.parametrize(("rate", "kept"), [(0.5, 12), (0.3, 17), (0.99, 1)])
def test_patch_dropout_keeps_its_share_in_order_and_all_tokens_in_front(rate, kept):
    """With blocks that add nothing, their output is the sequence that is left."""
    settings = ModelSettings(
        "mu/1", width=8, heads=1, mlp_dim=8, posemb="none", registers=2, patch_dropout=rate, scan=False
    )
    model = Model(settings, (4, 6), 1, 2)
    params = zero_params(model)
    params["embedding"]["kernel"] += 1.0
    params["cls"] -= 1.0
    params["registers"] -= np.array([2.0, 3.0], np.float32)[:, None]
    images = jnp.broadcast_to(jnp.arange(1.0, 25.0).reshape(4, 6, 1), (600, 4, 6, 1))  # a patch's token is its number
    apply = jax.jit(model.apply, static_argnames="blocks")
    x = apply(params, images, dropout_key=jax.random.key(0), blocks=True)["blocks"][-1]
    assert x.shape == (600, 3 + kept, 8)
    x = np.asarray(x[:, :, 0])
    np.testing.assert_array_equal(x[:, :3], np.broadcast_to([-1.0, -2.0, -3.0], (600, 3)))
    left = x[:, 3:]
    assert (np.diff(left, axis=1) > 0).all()
    assert set(np.unique(left)) == set(range(1, 25))
    share = np.array([(left == patch).mean() * kept for patch in range(1, 25)])
    np.testing.assert_allclose(share, kept / 24, atol=4 * np.sqrt(kept / 24 * (1 - kept / 24) / 600))


@pytest.mark.parametrize("pool", ["gap", "map"])
def test_patches_that_are_left_go_through_the_model_as_if_there_were_no_others(pool):
    """Registers are not pooled, however many patches there are."""
    model = small(pool=pool, registers=2, patch_dropout=0.5)
    params, images = random_params(model), random_images(model, 2)
    apply = jax.jit(model.apply, static_argnames="blocks")
    features = apply(params, images, dropout_key=jax.random.key(0), blocks=True)
    assert features["tokens"].shape == (2, 2 + PATCHES // 2, 16)
    last = np.asarray(features["blocks"][-1], np.float64)
    settings, float64 = model.settings, reference.in_float64(params)
    for image in range(2):
        tokens = reference.norm(last[image], float64["norm"])
        expected = reference.pooled(tokens, float64, settings)
        np.testing.assert_allclose(features["pre_logits"][image], expected, rtol=1e-5, atol=1e-5)


# --- what the room needs ---


@pytest.mark.slow
def test_models_need_jax_flax_and_numpy_only():
    program = """
import sys
for name in ("tensorflow", "tensorflow_datasets", "ml_collections", "clu", "sklearn", "matplotlib"):
    sys.modules[name] = None
import jax
from vit_jax.models import Model, ModelSettings
model = Model(ModelSettings("mu/4"), (8, 8), 3, 2)
assert model.init(jax.random.key(0))["head"]["kernel"].shape == (32, 2)
print(sorted(name for name in sys.modules if name.startswith("vit_jax.") and name.count(".") == 1))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(["vit_jax.errors", "vit_jax.models", "vit_jax.rules", "vit_jax.trees"])
