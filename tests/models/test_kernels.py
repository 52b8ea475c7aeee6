"""Every kernel computes attention, whole and on a mesh; `auto` picks one that can."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parallel.test_collectives import OnGpus
from vit_jax import parallel
from vit_jax.errors import BadSetting
from vit_jax.models.kernels import ATTENTIONS, HEADS, attend, attention_weights, best_kernel
from vit_jax.models.layers import unconstrained

from .elsewhere import Elsewhere

RUNNABLE = ("plain", "xla", "pallas")


def _arrays(shape, keys=None, dtype="float32"):
    """Random query, key, value and cotangent of the result; `keys` is the number of keys if not that of queries."""
    b, q, k, e = shape
    n = keys or q
    random = np.random.default_rng(0)
    drawn = [random.normal(size=(b, tokens, k, e)) for tokens in (q, n, n, q)]
    return [jnp.asarray(x, dtype) for x in drawn]


def _weights(query, key, bias=0.0):
    """softmax(q k^T / sqrt(e) + bias) in float64."""
    query, key, bias = (np.asarray(x, np.float64) for x in (query, key, bias))
    logits = np.einsum("bqke,bnke->bkqn", query, key) / np.sqrt(query.shape[-1]) + bias
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _reference(query, key, value, cotangent, bias=0.0):
    """Attention and its gradients for query, key, value and logits, by the chain rule in float64."""
    weights = _weights(query, key, bias)
    query, key, value, cotangent = (np.asarray(x, np.float64) for x in (query, key, value, cotangent))
    d_weights = np.einsum("bqke,bnke->bkqn", cotangent, value)
    d_logits = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True))
    return (
        np.einsum("bkqn,bnke->bqke", weights, value),
        np.einsum("bkqn,bnke->bqke", d_logits, key) / np.sqrt(query.shape[-1]),
        np.einsum("bkqn,bqke->bnke", d_logits, query) / np.sqrt(query.shape[-1]),
        np.einsum("bkqn,bqke->bnke", weights, cotangent),
        d_logits,
    )


def _with_gradients(kind, constrain=unconstrained):
    """Jitted (query, key, value, cotangent[, bias]) -> result and gradients for query, key, value[, bias]."""

    def run(query, key, value, cotangent, *bias):
        def attended(query, key, value, *bias):
            options = {"kind": kind, "bias": bias[0] if bias else None, "interpret": kind == "pallas"}
            return attend(query, key, value, constrain=constrain, **options)

        out, pull = jax.vjp(attended, query, key, value, *bias)
        return out, *pull(cotangent)

    return jax.jit(run)


def _assert_close(found, expected, tolerance):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float64), y, rtol=tolerance, atol=tolerance)


# 800 tokens are two blocks of 512 to the Pallas kernel, 197 one of 256.
@pytest.mark.parametrize("shape", [(2, 5, 3, 64), (1, 197, 2, 72), (1, 130, 1, 80), (1, 800, 1, 64)], ids=str)
@pytest.mark.parametrize("kind", RUNNABLE)
def test_kernels_equal_the_formula_forward_and_backward(kind, shape):
    arrays = _arrays(shape)
    _assert_close(_with_gradients(kind)(*arrays), _reference(*arrays)[:4], 1e-5)


@pytest.mark.parametrize("kind", RUNNABLE)
def test_bfloat16_rounds_activations_only(kind):
    arrays = _arrays((1, 197, 2, 64), dtype="bfloat16")
    found = _with_gradients(kind)(*arrays)
    assert {x.dtype for x in found} == {jnp.dtype("bfloat16")}
    # Three roundings of 2^-9; logits rounded to bfloat16 would be far outside.
    _assert_close(found, _reference(*arrays)[:4], 1.5e-2)


@pytest.mark.parametrize("kind", RUNNABLE)
def test_softmax_is_in_float32(kind):
    """Two keys whose logits differ by 0.5 near 1,000: the same number in bfloat16."""
    query = jnp.zeros((1, 2, 1, 64), jnp.bfloat16).at[..., :2].set(8.0)
    key = jnp.zeros((1, 2, 1, 64), jnp.bfloat16).at[..., 0].set(1000.0).at[0, 1, 0, 1].set(0.5)
    value = jnp.zeros((1, 2, 1, 64), jnp.bfloat16).at[0, 1].set(1.0)
    found = attend(query, key, value, kind=kind, constrain=unconstrained, interpret=kind == "pallas")
    np.testing.assert_allclose(np.asarray(found, np.float64), 1 / (1 + np.exp(-0.5)), rtol=4e-3)


@pytest.mark.parametrize("kind", RUNNABLE)
def test_queries_and_keys_may_differ_in_number(kind):
    arrays = _arrays((2, 3, 2, 8), keys=131)
    _assert_close(_with_gradients(kind)(*arrays), _reference(*arrays)[:4], 1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (1, 3, 5, 5), (2, 1, 1, 5), (1, 1, 5, 1)], ids=str)
@pytest.mark.parametrize("kind", ["plain", "xla"])
def test_bias_broadcasts_and_has_a_gradient(kind, shape):
    arrays = _arrays((2, 5, 3, 8))
    bias = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    *expected, d_logits = _reference(*arrays, bias)
    summed = tuple(axis for axis, size in enumerate(shape) if size == 1)
    expected.append(d_logits.sum(summed, keepdims=True))
    _assert_close(_with_gradients(kind)(*arrays, bias), expected, 1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_attention_weights_are_float32_of_the_softmax(biased):
    query, key, *_ = _arrays((2, 4, 3, 64), keys=6, dtype="bfloat16")
    bias = [jnp.asarray(np.random.default_rng(1).normal(size=(1, 3, 4, 6)), jnp.bfloat16)] * biased
    found = attention_weights(query, key, *bias)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, _weights(query, key, *bias), rtol=1e-5)  # 1/sqrt(64) rounds nothing


def test_dropout_zeroes_weights_and_rescales_the_others():
    """With unit vectors as values the result is the weights themselves."""
    query, key, _, _ = _arrays((2, 32, 2, 32))
    value = jnp.broadcast_to(jnp.eye(32)[None, :, None, :], key.shape)
    options = {"kind": "auto", "dropout_rate": 0.25, "constrain": unconstrained}
    whole = np.asarray(attend(query, key, value, **options))
    np.testing.assert_allclose(whole.sum(-1), 1.0, rtol=1e-5)
    dropped = np.asarray(attend(query, key, value, dropout_key=jax.random.key(0), **options))
    kept = dropped != 0.0
    # 4,096 draws: the share has a standard deviation of 0.007.
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-5)


@pytest.mark.parametrize("kind", ["xla", "cudnn", "pallas"])
def test_other_kernels_refuse_to_drop_weights(kind):
    query, key, value, _ = _arrays((1, 4, 1, 8), dtype="bfloat16")
    options = {"kind": kind, "dropout_rate": 0.1, "constrain": unconstrained}
    with pytest.raises(BadSetting, match=f"attention = '{kind}': cannot drop attention weights"):
        attend(query, key, value, dropout_key=jax.random.key(0), **options)
    if kind == "xla":
        assert attend(query, key, value, **options).shape == query.shape  # in evaluation there is no key


@pytest.mark.parametrize(
    ("platform", "dtype", "tokens", "head_dim", "options", "expected"),
    [
        ("cpu", "bfloat16", 4096, 64, {}, "plain"),
        ("gpu", "bfloat16", 197, 64, {}, "cudnn"),
        ("gpu", "float16", 197, 80, {}, "cudnn"),
        ("gpu", "float32", 197, 64, {}, "xla"),
        ("gpu", "bfloat16", 65, 64, {}, "xla"),
        ("gpu", "bfloat16", 197, 68, {}, "xla"),
        ("gpu", "bfloat16", 197, 136, {}, "xla"),
        ("gpu", "bfloat16", 196, 64, {"bias": True}, "cudnn"),
        ("gpu", "bfloat16", 197, 64, {"bias": True}, "xla"),
        ("tpu", "bfloat16", 577, 64, {}, "xla"),
        ("tpu", "bfloat16", 1024, 72, {}, "pallas"),
        ("tpu", "float32", 1370, 80, {}, "pallas"),
        ("tpu", "bfloat16", 1024, 64, {"bias": True}, "xla"),
        *((platform, "bfloat16", 1024, 64, {"dropout": True}, "plain") for platform in ("cpu", "gpu", "tpu")),
    ],
)
def test_auto_by_platform_dtype_and_size(platform, dtype, tokens, head_dim, options, expected):
    flags = {"bias": False, "dropout": False, **options}
    assert best_kernel(platform, dtype, tokens, head_dim, **flags) == expected


def _traced(kind, platform, tokens, queries=None):
    query, key, value, _ = _arrays((1, queries or tokens, 1, 8), keys=tokens, dtype="bfloat16")
    return str(jax.make_jaxpr(lambda *x: attend(*x, kind=kind, constrain=Elsewhere(platform)))(query, key, value))


def test_auto_follows_the_devices_of_the_program():
    assert "pallas_call" in _traced("auto", "tpu", 1024)
    assert "pallas_call" not in _traced("auto", "tpu", 1023)
    assert "pallas_call" not in _traced("auto", "cpu", 1024)
    mesh = parallel.make_mesh(parallel.MeshSettings())
    assert parallel.constrain_on(mesh).platform == unconstrained.platform == "cpu"


def test_v6e_makes_the_exponentials_once_and_they_are_the_same():
    arrays = _arrays((2, 5, 3, 64))
    v6e, v5e = (_with_gradients("xla", Elsewhere("tpu", f"TPU {kind} lite")) for kind in ("v6", "v5"))
    assert [str(jax.make_jaxpr(f)(*arrays)).count("optimization_barrier") for f in (v6e, v5e)] == [1, 0]
    _assert_close(v6e(*arrays), _reference(*arrays)[:4], 1e-5)


def test_one_query_is_left_to_xla():
    assert "pallas_call" in _traced("pallas", "tpu", 256, queries=2)
    assert "pallas_call" not in _traced("pallas", "tpu", 256, queries=1)


@pytest.mark.parametrize(
    ("tokens", "padded"), [(5, 128), (197, 256), (257, 384), (577, 640), (1025, 1152), (1370, 1536), (4096, 4096)]
)
def test_pallas_pads_to_the_blocks_that_waste_least(tokens, padded):
    assert f"[1,{padded},1,8] = pad" in _traced("pallas", "tpu", tokens).replace("bf16", "")


@pytest.mark.parametrize(
    ("kind", "platform", "dtype", "head_dim", "bias", "message"),
    [
        ("flash", "cpu", "float32", 8, None, "must be one of auto, plain, xla, cudnn, pallas"),
        ("cudnn", "cpu", "bfloat16", 8, None, "runs on NVIDIA GPUs, but the program is for cpu"),
        ("cudnn", "gpu", "float32", 8, None, "needs activations in bfloat16, not float32"),
        ("cudnn", "gpu", "bfloat16", 12, None, "head_dim that is a multiple of 8 and at most 128, not 12"),
        ("cudnn", "gpu", "bfloat16", 8, (1, 1, 5, 5), "even number of tokens with a bias, not 5"),
        ("pallas", "cpu", "float32", 8, None, "runs on TPUs, but the program is for cpu"),
        ("pallas", "tpu", "float32", 8, (1, 1, 5, 5), "cannot add a bias"),
    ],
)
def test_an_explicit_kernel_that_cannot_work_is_refused(kind, platform, dtype, head_dim, bias, message):
    query, key, value, _ = _arrays((1, 5, 1, head_dim), dtype=dtype)
    bias = None if bias is None else jnp.zeros(bias)
    with pytest.raises(BadSetting, match=f"attention = '{kind}': .*{message}"):
        attend(query, key, value, kind=kind, bias=bias, constrain=Elsewhere(platform))


class _Gpu:
    platform = "gpu"

    def __init__(self, compute_capability):
        self.compute_capability = compute_capability


@pytest.mark.parametrize(
    ("capability", "expected"), [("7.5", "xla"), ("gfx90a", "xla"), ("8.0", "cudnn"), ("10.0", "cudnn")]
)
def test_old_and_other_gpus_have_no_flash_attention(monkeypatch, capability, expected):
    monkeypatch.setattr(jax, "local_devices", lambda: [_Gpu("9.0"), _Gpu(capability)])
    assert best_kernel("gpu", jnp.bfloat16, 197, 64, bias=False, dropout=False) == expected


@pytest.fixture(scope="module")
def mesh():
    return parallel.make_mesh(parallel.MeshSettings(data=4, tensor=2))


# Three heads do not divide by two devices and stay whole, so does a batch of 2.
@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ((4, 10, 2, 8), (1, 10, 1, 8)),
        ((4, 10, 3, 8), (1, 10, 3, 8)),
        ((2, 10, 2, 8), (2, 10, 1, 8)),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", RUNNABLE)
def test_kernels_on_a_mesh_equal_the_formula(kind, shape, part, mesh):
    constrain = parallel.constrain_on(mesh)
    arrays = [jax.jit(lambda x: constrain(x, HEADS))(x) for x in _arrays(shape)]
    found = _with_gradients(kind, constrain)(*arrays)
    _assert_close(found, _reference(*arrays)[:4], 1e-5)
    assert [x.sharding.shard_shape(shape) for x in found] == [part] * 4


def test_per_device_splits_what_divides_and_keeps_what_is_one(mesh):
    """Sums of a broadcast gradient come from all devices."""
    constrain, seen = parallel.constrain_on(mesh), []

    def scaled(x, scale):
        seen.append((x.shape, scale.shape))
        return x * scale

    names = ("batch", "tokens", "heads")
    run = constrain.per_device(scaled, (names, names), names)
    x, scale = jnp.arange(48.0).reshape(8, 3, 2), jnp.array([[[2.0, 3.0]]])
    np.testing.assert_array_equal(jax.jit(run)(x, scale), np.asarray(x) * np.asarray(scale))
    assert seen == [((2, 3, 1), (1, 1, 1))]
    gradient = jax.jit(jax.grad(lambda scale: run(x, scale).sum()))(scale)
    np.testing.assert_array_equal(gradient, np.asarray(x).sum((0, 1), keepdims=True))


def test_per_device_without_a_mesh_checks_names():
    run = unconstrained.per_device(lambda x: x.sum(-1), (("batch", "tokens"),), ("batch",))
    np.testing.assert_array_equal(run(jnp.ones((2, 3))), [3.0, 3.0])
    with pytest.raises(ValueError, match="does not name the 1 axes"):
        run(jnp.ones(3))
    with pytest.raises(ValueError, match="does not name the 0 axes"):
        unconstrained.per_device(jnp.sum, (("batch",),), ("batch",))(jnp.ones(3))


@pytest.mark.parametrize(("tokens", "biased"), [(196, False), (197, False), (196, True)])
def test_cudnn_lowers_for_cuda_on_each_device(tokens, biased, mesh, monkeypatch):
    """The library is not here, so that JAX has to be told its version; nothing runs."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)
    arrays = [jax.ShapeDtypeStruct((4, tokens, 2, 64), "bfloat16")] * 4
    bias = [jax.ShapeDtypeStruct((1, 2, 1, tokens), "float32")] * biased
    lowered = _with_gradients("auto", OnGpus(mesh)).trace(*arrays, *bias).lower(lowering_platforms=("cuda",))
    call = r"@__cudnn\$fmha(\w+)\(.*mask_type\W+22: \W+22(\w+?)\W+22.* : \(tensor<([\dx]+)xbf16>"
    calls = re.findall(call, lowered.as_text())
    inner = "ScaleBiasSoftmax" if biased else "Softmax"
    # Odd numbers of tokens are padded by one that is masked; each device has one example and one head.
    mask, padded = ("PADDING", tokens + 1) if tokens % 2 else ("NO_MASK", tokens)
    assert calls == [(inner + pass_, mask, f"1x{padded}x1x64") for pass_ in ("", "Backward")]
    expected = [x.shape for x in (*arrays, *bias)]
    assert [x.shape for x in lowered.out_info] == expected


def test_every_kind_is_covered_here():
    assert set(ATTENTIONS) == {"auto", *RUNNABLE, "cudnn"}
