"""The Vision Transformer against the paper's counts and an independent NumPy version of its equations."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import Model, ModelSettings, normalize
from vit_jax.trees import named_leaves

HEADS = 4


def small(**options) -> Model:
    shape = {"width": 16, "mlp_dim": 24, "depth": 2, "heads": HEADS}
    return Model(ModelSettings("mu/4", **{**shape, **options}), (8, 12), 3, 7)


def random_params(model: Model):
    """Every parameter away from zero and from its initial value, so that each one matters."""
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0.1, 0.3, leaf.shape).astype(np.float32), model.abstract_params)


def random_images(model: Model) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (3, *model.image_size, model.channels)).astype(np.float32)


# --- the equations of the paper in float64 NumPy ---


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(x, p):
    width = x.shape[-1]
    per_head = width // HEADS
    q, k, v = (
        dense(x, {"kernel": p[n]["kernel"].reshape(width, width), "bias": p[n]["bias"].reshape(width)})
        for n in ("query", "key", "value")
    )
    mixed = []
    for head in range(HEADS):
        part = slice(head * per_head, (head + 1) * per_head)
        logits = q[..., part] @ k[..., part].swapaxes(-1, -2) / np.sqrt(per_head)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        mixed.append(weights / weights.sum(-1, keepdims=True) @ v[..., part])
    out = {"kernel": p["out"]["kernel"].reshape(width, width), "bias": p["out"]["bias"]}
    return dense(np.concatenate(mixed, axis=-1), out)


def reference_logits(params, images, patch, pool):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    rows, columns = images.shape[1] // patch, images.shape[2] // patch
    kernel = params["embedding"]["kernel"].reshape(-1, params["embedding"]["kernel"].shape[-1])
    tokens = [
        images[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].reshape(len(images), -1) @ kernel
        for r in range(rows)
        for c in range(columns)
    ]
    x = np.stack(tokens, axis=1) + params["embedding"]["bias"]
    if pool == "token":
        x = np.concatenate([np.repeat(params["cls"], len(images), axis=0), x], axis=1)
    x = x + params["pos_embedding"]
    for layer in range(len(params["blocks"]["norm1"]["scale"])):
        block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["blocks"])
        x = x + attention(norm(x, block["norm1"]), block["attn"])
        x = x + dense(gelu(dense(norm(x, block["norm2"]), block["mlp"]["dense1"])), block["mlp"]["dense2"])
    x = norm(x, params["norm"])
    x = x[:, 0] if pool == "token" else x.mean(axis=1)
    if "pre_logits" in params:
        x = np.tanh(dense(x, params["pre_logits"]))
    return dense(x, params["head"])


@pytest.mark.parametrize("pool", ["token", "gap"])
@pytest.mark.parametrize("pre_logits", [False, True])
def test_logits_are_those_of_the_papers_equations(pool, pre_logits):
    model = small(pool=pool, pre_logits=pre_logits)
    params, images = random_params(model), random_images(model)
    expected = reference_logits(params, images, 4, pool)
    assert expected.std() > 0.1
    np.testing.assert_allclose(jax.jit(model.apply)(params, images)["logits"], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("variant", "count", "with_pre_logits"),
    [
        ("Ti/16", 5_717_416, 5_754_472),
        ("S/32", 22_878_952, 23_026_792),
        ("S/16", 22_050_664, 22_198_504),
        ("B/32", 88_224_232, 88_814_824),
        ("B/16", 86_567_656, 87_158_248),
        ("L/32", 306_535_400, 307_585_000),
        ("L/16", 304_326_632, 305_376_232),
        ("H/14", 632_045_800, 633_685_480),
    ],
)
def test_parameter_counts_are_exact(variant, count, with_pre_logits):
    assert Model(ModelSettings(variant), (224, 224), 3, 1000).parameter_count == count
    assert Model(ModelSettings(variant, pre_logits=True), (224, 224), 3, 1000).parameter_count == with_pre_logits


@pytest.mark.parametrize(("variant", "count"), [("S/16", 22_049_896), ("B/32", 88_222_696)])
def test_parameter_counts_are_exact_without_a_class_token(variant, count):
    assert Model(ModelSettings(variant, pool="gap"), (224, 224), 3, 1000).parameter_count == count


@pytest.mark.parametrize(("pool", "tokens"), [("token", 7), ("gap", 6)])
def test_features_have_the_documented_shapes(pool, tokens):
    model = small(pool=pool, pre_logits=True)
    features = jax.eval_shape(model.apply, model.abstract_params, jnp.zeros((3, 8, 12, 3)))
    assert {name: feature.shape for name, feature in features.items()} == {
        "stem": (3, 6, 16),
        "tokens": (3, tokens, 16),
        "pre_logits": (3, 16),
        "logits": (3, 7),
    }


def test_a_fresh_model_starts_as_the_paper_says():
    settings = ModelSettings("B/4", depth=2, width=96, mlp_dim=192, heads=4, pre_logits=True, head_bias=-10.0)
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
    assert {"head/kernel", "cls", "blocks/attn/out/bias", "blocks/norm1/scale"} <= set(named)


def test_initialisation_depends_on_the_key_alone():
    init = jax.jit(small().init)
    first, again, other = (named_leaves(init(jax.random.key(seed))) for seed in (0, 0, 1))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["pos_embedding"] != other["pos_embedding"]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("pool", ["token", "gap"])
def test_parameters_are_float32_whatever_the_compute_dtype(dtype, pool):
    params = small(dtype=dtype, pool=pool, pre_logits=True).abstract_params
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


def test_dropout_is_off_without_a_key_and_random_with_one():
    plain, dropping = small(), small(dropout=0.4)
    params, images = random_params(plain), random_images(plain)
    apply = jax.jit(dropping.apply)
    expected = jax.jit(plain.apply)(params, images)["logits"]
    np.testing.assert_array_equal(apply(params, images)["logits"], expected)
    one, same, two = (apply(params, images, dropout_key=jax.random.key(seed))["logits"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != two).all()
    assert (one != expected).all()


def test_pixels_are_normalised_to_plus_minus_one():
    pixels = jnp.array([0, 255, 51], jnp.uint8)
    np.testing.assert_allclose(normalize(pixels), [-1.0, 1.0, -0.6], atol=1e-6)
    assert normalize(pixels).dtype == jnp.float32


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


def test_logits_are_not_rounded_to_the_compute_dtype():
    model = Model(ModelSettings("mu/2", dtype="bfloat16"), (8, 8), 3, 10)
    params = model.init(jax.random.key(0))
    params["head"]["kernel"] = jax.random.normal(jax.random.key(1), params["head"]["kernel"].shape)
    logits = model.apply(params, jax.random.normal(jax.random.key(2), (4, 8, 8, 3)))["logits"]
    assert (logits != logits.astype(jnp.bfloat16).astype(jnp.float32)).any()
