"""Attention kernels: softmax(q k^T / sqrt(e) + bias) v on different machines, and which of them is meant by `auto`.

    plain   matmul, softmax, matmul; drops attention weights, and is the reference of the others
    xla     plain operations, too; of the size of the logits it keeps one array, in the dtype of the activations
    cudnn   cuDNN's flash attention, NVIDIA GPUs, never stores the logits
    pallas  JAX's splash attention, TPUs, never stores the logits

All compute the softmax in float32. Arrays are (b, n, k, e): batch, tokens, heads, head_dim.
"""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vit_jax.errors import BadSetting
from vit_jax.models.layers import Constrain, dropout

ATTENTIONS = ("auto", "plain", "xla", "cudnn", "pallas")

HEADS = ("batch", "tokens", "heads", "head_dim")
LOGITS = ("batch", "heads", "tokens", "tokens")

# Under one 128-row tile a flash kernel works mostly on padding, and the logits it avoids are small anyway.
CUDNN_FROM = 128
# Compiled for v5e (12 heads of 64, batch 8, forward and backward), xla moves 1.6 times the bytes of the kernel with its
# padding at 577 tokens and 1.9 times at 1,024 (plain: 6.6 and 6.4 times); the kernel does half as many flops again.
PALLAS_FROM = 1024

# Sides of a block of logits. Compiled for v5e, forward and backward, blocks up to 1,024 x 1,024 fit the fast memory.
PALLAS_BLOCKS = (256, 384, 512, 640, 768)
TILE = 128

# XLA for these chips makes the exponentials of `xla` twice, for their sum and for the product, from float32 logits that
# it writes to memory, unless a barrier keeps it from that. One step on a v6e: H/14, all of a block recomputed, 80.8 ->
# 66.7 GB; B/16, products kept, 29.7 -> 24.3. On v5e L/16 would move a tenth more with the barrier, and nothing less.
BARRIER_KINDS = ("TPU v6 lite",)


def best_kernel(platform: str, dtype: DTypeLike, tokens: int, head_dim: int, *, bias: bool, dropout: bool) -> str:
    """What `auto` means: the first kind for this platform that can do the work.

    Chosen without measurements on devices: see the comments at `CUDNN_FROM` and `PALLAS_FROM`.

    Args:
      platform: `cpu`, `gpu` or `tpu`, of the devices the program is for.
      dtype: of query, key and value.
      tokens: number of keys.
      head_dim: of one head.
      bias: whether something is added to the logits.
      dropout: whether attention weights are dropped.
    """
    preferred = {"gpu": ("cudnn", CUDNN_FROM), "tpu": ("pallas", PALLAS_FROM)}
    if dropout or platform not in preferred:
        return "plain"
    kind, least = preferred[platform]
    fits = tokens >= least and _objection(kind, platform, dtype, tokens, head_dim, bias, dropout) is None
    return kind if fits else "xla"


def _objection(
    kind: str, platform: str, dtype: DTypeLike, tokens: int, head_dim: int, bias: bool, dropout: bool
) -> str | None:
    """Why `kind` cannot do this and what could, or None. cuDNN's limits: jax/_src/cudnn in jax 0.10.2."""
    if dropout and kind != "plain":
        return "cannot drop attention weights; plain or auto can"
    if kind == "pallas":
        if platform != "tpu":
            return f"runs on TPUs, but the program is for {platform}; auto picks what runs there"
        if bias:
            return "cannot add a bias to the logits; xla can"
    if kind == "cudnn":
        if platform != "gpu":
            return f"runs on NVIDIA GPUs, but the program is for {platform}; auto picks what runs there"
        if not all(_is_ampere(device) for device in jax.local_devices() if device.platform == "gpu"):
            return "needs NVIDIA GPUs of compute capability 8.0 or later; xla runs on others"
        if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
            return f"needs activations in bfloat16, not {jnp.dtype(dtype).name}; xla takes both"
        # Hopper takes 256; no published ViT has a head_dim above 128.
        if head_dim > 128 or head_dim % 8:
            return f"needs a head_dim that is a multiple of 8 and at most 128, not {head_dim}; xla takes any"
        if bias and tokens % 2:
            return f"needs an even number of tokens with a bias, not {tokens}; xla takes any"
    return None


def _is_ampere(device: jax.Device) -> bool:
    # "9.0" on NVIDIA, "gfx90a" on AMD.
    found = re.fullmatch(r"(\d+)\.\d+", str(getattr(device, "compute_capability", "")))
    return found is not None and int(found[1]) >= 8


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    kind: str,
    bias: jax.Array | None = None,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
    constrain: Constrain,
    interpret: bool = False,
) -> jax.Array:
    """softmax(q k^T / sqrt(e) + bias) v.

    Args:
      query: (b, q, k, e).
      key: (b, n, k, e).
      value: (b, n, k, e).
      kind: one of `ATTENTIONS`. `auto` is decided when the function is traced, see `best_kernel`, from
        `constrain.platform`: the mesh's devices, also when they are only described to an ahead-of-time compiler, or
        without a mesh `jax.default_backend()`. `cudnn` and `pallas` leave a single query to `xla`.
      bias: four axes that broadcast to (b, k, q, n), added to the logits.
      dropout_rate: of the attention weights; only `plain` does it, so `auto` becomes `plain`.
      dropout_key: without one nothing is dropped.
      constrain: runs kernels that XLA cannot split on each device's part of batch and heads.
      interpret: `pallas` on any platform by JAX's interpreter; slow, for tests.

    Returns:
      (b, q, k, e) in the dtype of `value`.

    Raises:
      BadSetting: an explicit kind that cannot do this on this platform.
    """
    dropping = dropout_key is not None and dropout_rate > 0.0
    kind = _decide(kind, query, key, constrain, bias is not None, dropping, interpret)
    if kind == "plain":
        weights = attention_weights(query, key, bias).astype(value.dtype)
        return jnp.einsum("bkqn,bnke->bqke", dropout(weights, dropout_rate, dropout_key), value)
    if kind == "xla" and bias is None:
        return _xla(query, key, value, constrain.device_kind in BARRIER_KINDS)
    if kind == "xla":
        return jax.nn.dot_product_attention(query, key, value, bias, implementation="xla")
    names = (HEADS,) * 3 + (() if bias is None else (LOGITS,))
    arrays = (query, key, value) + (() if bias is None else (bias,))

    def kernel(*parts: jax.Array) -> jax.Array:
        return _cudnn(*parts) if kind == "cudnn" else _pallas(*parts, interpret=interpret)

    return constrain.per_device(kernel, names, HEADS)(*arrays)


def attention_weights(query: jax.Array, key: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """softmax(q k^T / sqrt(e) + bias) as (b, k, q, n) in float32; logits are float32 sums of products in query's dtype.

    Args:
      query: (b, q, k, e).
      key: (b, n, k, e).
      bias: four axes that broadcast to (b, k, q, n).
    """
    logits = _logits(query, key)
    return jax.nn.softmax(logits if bias is None else logits + bias.astype(jnp.float32), axis=-1)


def _logits(query: jax.Array, key: jax.Array) -> jax.Array:
    """q k^T / sqrt(e): (b, k, q, n) in float32."""
    scale = query.shape[-1] ** -0.5
    return jnp.einsum("bqke,bnke->bkqn", query * scale, key, preferred_element_type=jnp.float32)


def _decide(
    kind: str, query: jax.Array, key: jax.Array, constrain: Constrain, bias: bool, dropping: bool, interpret: bool
) -> str:
    """`auto` as one of the other kinds; an explicit kind only if it can do the work."""
    if kind not in ATTENTIONS:
        raise BadSetting("attention", kind, f"must be one of {', '.join(ATTENTIONS)}")
    if kind in ("plain", "xla") and not dropping:
        return kind
    platform = "tpu" if interpret else constrain.platform
    tokens, head_dim = key.shape[1], query.shape[-1]
    if kind == "auto":
        kind = best_kernel(platform, query.dtype, tokens, head_dim, bias=bias, dropout=dropping)
    elif objection := _objection(kind, platform, query.dtype, tokens, head_dim, bias, dropping):
        raise BadSetting("attention", kind, objection)
    # The one query of a pooling head has one row of logits: nothing to save, and a tile full of padding.
    return "xla" if kind in ("cudnn", "pallas") and query.shape[1] == 1 else kind


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _xla(query: jax.Array, key: jax.Array, value: jax.Array, barrier: bool) -> jax.Array:
    """softmax(q k^T / sqrt(e)) v with float32 sums; of the size of the logits only their exponentials are kept.

    They are divided by their sum after the second product, as flash attention does, and stored in the dtype of `value`,
    where their relative error is that of one rounding. XLA's own attention keeps the weights in float32. For `barrier`
    see `BARRIER_KINDS`.
    """
    return _xla_forward(query, key, value, barrier)[0]


def _xla_forward(query: jax.Array, key: jax.Array, value: jax.Array, barrier: bool) -> tuple[jax.Array, Any]:
    logits = _logits(query, key)
    exponentials = jnp.exp(logits - logits.max(-1, keepdims=True)).astype(value.dtype)
    total = exponentials.astype(jnp.float32).sum(-1, keepdims=True)
    if barrier:
        exponentials, total = jax.lax.optimization_barrier((exponentials, total))
    mixed = jnp.einsum("bkqn,bnke->bqke", exponentials, value, preferred_element_type=jnp.float32)
    mixed = (mixed / total.swapaxes(1, 2)).astype(value.dtype)
    return mixed, (query, key, value, mixed, exponentials, total)


def _xla_backward(_: bool, kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    query, key, value, mixed, exponentials, total = kept
    scale = query.shape[-1] ** -0.5
    weights = exponentials.astype(jnp.float32) / total
    dvalue = jnp.einsum("bkqn,bqke->bnke", weights.astype(value.dtype), gradient)
    # What softmax subtracts, the mean of the weights' gradient under the weights, by products of smaller arrays.
    mean = (gradient.astype(jnp.float32) * mixed.astype(jnp.float32)).sum(-1, keepdims=True)
    dweights = jnp.einsum("bqke,bnke->bkqn", gradient, value, preferred_element_type=jnp.float32)
    dlogits = (weights * (dweights - mean.swapaxes(1, 2))).astype(query.dtype)
    dquery = jnp.einsum("bkqn,bnke->bqke", dlogits, key) * scale
    return dquery, jnp.einsum("bkqn,bqke->bnke", dlogits, query * scale), dvalue


_xla.defvjp(_xla_forward, _xla_backward)


def _cudnn(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    b, queries, keys = query.shape[0], query.shape[1], key.shape[1]
    if bias is not None:
        # cuDNN broadcasts over batch and heads only, and computes in one dtype.
        bias = jnp.broadcast_to(bias, (*bias.shape[:2], queries, keys)).astype(query.dtype)
        return jax.nn.dot_product_attention(query, key, value, bias, implementation="cudnn")
    # jax 0.10.2 takes odd lengths only without gradients: it checks them as if there were a bias.
    query, key, value = _padded(query, queries % 2), _padded(key, keys % 2), _padded(value, keys % 2)
    real = jnp.full((b,), keys, jnp.int32) if keys % 2 else None
    mixed = jax.nn.dot_product_attention(query, key, value, key_value_seq_lengths=real, implementation="cudnn")
    return mixed[:, :queries]


def _padded(x: jax.Array, more: int) -> jax.Array:
    """(b, n, k, e) -> (b, n + more, k, e), zeros after the tokens."""
    return jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0)))


def _pallas(query: jax.Array, key: jax.Array, value: jax.Array, *, interpret: bool) -> jax.Array:
    """Splash attention, tokens padded to whole blocks; queries and real keys are segment 0, padding keys segment 1."""
    # Imported here, because only programs for TPUs need it.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    queries, keys, heads = query.shape[1], key.shape[1], query.shape[2]
    (block_q, padded_q), (block_n, padded_n) = _tiling(queries), _tiling(keys)
    sizes = splash.BlockSizes(
        block_q=block_q,
        block_kv=block_n,
        block_q_dkv=block_q,
        block_kv_dkv=block_n,
        block_q_dq=block_q,
        block_kv_dq=block_n,
    )
    everything = splash.MultiHeadMask([splash.FullMask((padded_q, padded_n))] * heads)
    kernel = splash.make_splash_mha(everything, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
    segments = None
    if padded_n > keys:
        padding = (jnp.arange(padded_n) >= keys).astype(jnp.int32)
        segments = splash.SegmentIds(q=jnp.zeros((padded_q,), jnp.int32), kv=padding)
    # The kernel does not scale; it wants (k, n, e) and one example at a time.
    query = _padded(query * query.shape[-1] ** -0.5, padded_q - queries)
    key, value = _padded(key, padded_n - keys), _padded(value, padded_n - keys)
    by_heads = (x.swapaxes(1, 2) for x in (query, key, value))
    mixed = jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=segments))(*by_heads)
    return mixed[:, :, :queries].swapaxes(1, 2)


def _tiling(tokens: int) -> tuple[int, int]:
    """(block, tokens padded to whole blocks) with the least padding, then the fewest blocks: 1370 -> (768, 1536)."""
    if tokens <= PALLAS_BLOCKS[0]:
        whole = -(-tokens // TILE) * TILE
        return whole, whole
    padded = {block: -(-tokens // block) * block for block in PALLAS_BLOCKS}
    block = min(padded, key=lambda block: (padded[block], -block))
    return block, padded[block]
