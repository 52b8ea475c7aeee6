"""The state dicts of timm's VisionTransformer (ViTs and hybrids) and of its BiT ResNets.

Names from timm 1.0.31: `vision_transformer.py`, `vision_transformer_hybrid.py`, `resnetv2.py`. A folder as timm
publishes it has a `config.json` beside the arrays, whose `model_args` override what the architecture's name implies.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax.checkpoint.layouts.layout import Hints, Layout
from vit_jax.checkpoint.layouts.pytorch import (
    cropped,
    finite,
    in_order,
    known_heads,
    layers,
    reads_config,
    refuse,
    rescaled,
    size_of,
    trunk_rules,
)
from vit_jax.checkpoint.layouts.rules import Arrays, Rule, linear, norm, rule
from vit_jax.errors import UserError

HEADS_FIRST = "d k e -> (k e) d"
HEADS_LAST = "k e d -> d (k e)"
STEM = "patch_embed.proj"
HEAD, BIT_HEAD = "head", "head.fc"
ROOT = "patch_embed.backbone.stem."
# A trunk without stages is the stem alone, one level up.
ROOT_ALONE = "patch_embed.backbone."
GELUS = {"tanh": "gelu_tanh", "erf": "gelu"}
BIT_ARCHITECTURE = re.compile(r"resnetv2_\d+x\d+_bit")

# What training loops, compilers and Hugging Face's wrapper put in front of every name.
_PREFIX = re.compile(r"(?:(?:module|model|timm_model|_orig_mod)\.)*")
_BUFFER = re.compile(r".*\.(num_batches_tracked|relative_position_index)")


def _fused(ours: str, theirs: str, parts: tuple[str, ...]) -> Iterator[Rule]:
    """Projections of queries, keys or values, joined along their output."""
    yield rule(tuple(f"{ours}/{part}/kernel" for part in parts), f"{theirs}.weight", HEADS_FIRST)
    yield rule(tuple(f"{ours}/{part}/bias" for part in parts), f"{theirs}.bias", "k e -> (k e)")


def _out(ours: str, theirs: str) -> Iterator[Rule]:
    yield rule(f"{ours}/kernel", f"{theirs}.weight", HEADS_LAST)
    yield rule(f"{ours}/bias", f"{theirs}.bias")


def _block_rules() -> Iterator[Rule]:
    block = "blocks.{i}"
    for n in "12":
        yield from norm(f"blocks/norm{n}", f"{block}.norm{n}")
        yield rule(f"blocks/scale{n}", f"{block}.ls{n}.gamma")
        yield from linear(f"blocks/mlp/dense{n}", f"{block}.mlp.fc{n}")
    yield from _fused("blocks/attn", f"{block}.attn.qkv", ("query", "key", "value"))
    yield from norm("blocks/attn/query_norm", f"{block}.attn.q_norm")
    yield from norm("blocks/attn/key_norm", f"{block}.attn.k_norm")
    yield from _out("blocks/attn/out", f"{block}.attn.proj")


def _map_head_rules() -> Iterator[Rule]:
    yield rule("map_head/probe", "attn_pool.latent")
    yield from _fused("map_head/attn", "attn_pool.q", ("query",))
    yield from _fused("map_head/attn", "attn_pool.kv", ("key", "value"))
    yield from _out("map_head/attn/out", "attn_pool.proj")
    yield from norm("map_head/norm", "attn_pool.norm")
    for n in "12":
        yield from linear(f"map_head/mlp/dense{n}", f"attn_pool.mlp.fc{n}")


def _vit_rules() -> Iterator[Rule]:
    yield rule("cls", "cls_token")
    yield rule("registers", "reg_token")
    yield rule("pos_embedding", "pos_embed")
    yield rule("embedding/kernel", f"{STEM}.weight", "h w i o -> o i h w")
    yield rule("embedding/bias", f"{STEM}.bias")
    yield from _block_rules()
    yield from norm("norm", "norm")
    yield from _map_head_rules()
    yield from linear("head", HEAD)
    yield from trunk_rules(f"{ROOT}conv", "patch_embed.backbone.stages.{s}.blocks.{u}")
    yield from norm("trunk/root_norm", f"{ROOT}norm")


def _bit_rules() -> Iterator[Rule]:
    yield from trunk_rules("stem.conv", "stages.{s}.blocks.{u}")
    yield from norm("norm", "norm")
    yield rule("head/kernel", f"{BIT_HEAD}.weight", "c n -> n c 1 1")
    yield rule("head/bias", f"{BIT_HEAD}.bias")


VIT_RULES = tuple(_vit_rules())
BIT_RULES = tuple(_bit_rules())

_NOT_VIT = {
    r"fc_norm\..*": "it normalises after pooling; timm's models with fc_norm=False normalise before",
    r"dist_token|head_dist\..*": "it has a distillation token",
    r"norm_pre\..*": "it normalises before the first block, as CLIP does",
    r"patch_embed\.norm\..*": "it normalises the patch embedding",
    r"rel_pos_bias\..*|blocks\.\d+\.attn\.(relative_position.*|rel_pos.*)": "it has relative position biases",
    r"rope\..*": "it has rotary position embeddings",
    r"blocks\.\d+\.attn\.[qkv]_bias": "it has biases on some of query, key and value",
    r"blocks\.\d+\.attn\.(norm|gate|lambda_.*)(\..*)?": "its attention has more parts",
    r"blocks\.\d+\.(in_norm|in_proj|mlp_out_proj|attns\..*|ffns\..*)(\..*)?": "its attention and MLP are parallel",
    r"blocks\.\d+\.mlp\.(w\d+|fc1_[gx]|norm)\..*": "its MLP is gated or has a norm",
    r"patch_embed\.backbone\.(?!stem\.(conv|norm)\.|conv\.|norm\.|stages\.\d+\.blocks\.).*": (
        "its trunk is not the ResNet with GroupNorm of the released hybrids"
    ),
}
_NOT_BIT = {
    r".*\.(running_mean|running_var)": "it has BatchNorm",
    r"stem\.norm\..*": "its units normalise after each convolution; BiT's do before",
    r"stem\.conv[123]\..*": "its stem is deep; BiT's is one convolution",
}


def _stripped(arrays: Arrays, anchor: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Without the prefix that `anchor` has, and without buffers."""
    prefix = next(name.removesuffix(anchor) for name in arrays if _is(name, anchor))
    kept = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    ignored = [name for name in arrays if not name.startswith(prefix) or _BUFFER.fullmatch(name)]
    return {name: array for name, array in kept.items() if not _BUFFER.fullmatch(name)}, ignored


def _is(name: str, wanted: str) -> bool:
    return name.endswith(wanted) and bool(_PREFIX.fullmatch(name.removesuffix(wanted)))


def _has(names: set[str], wanted: str) -> bool:
    return any(_is(name, wanted) for name in names)


def recognises_vit(names: set[str]) -> bool:
    """Whether these are the arrays of timm's VisionTransformer, or of one of its relatives, which are refused later."""
    return _has(names, f"{STEM}.weight") and _has(names, "blocks.0.attn.qkv.weight")


def recognises_bit(names: set[str]) -> bool:
    """Whether these are the arrays of timm's ResNetV2, or of one of its relatives, which are refused later."""
    return _has(names, "stem.conv.weight") and _has(names, "stages.0.blocks.0.norm3.weight")


@reads_config
def canonical_vit(arrays: Arrays, config: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Plain names, one kind of `pos_embed`, and images in [-1, 1].

    Raises:
      UserError: the model has parts that ours lacks, or the config asks for something we do not have.
    """
    named, ignored = _stripped(arrays, f"{STEM}.weight")
    refuse([*named], _NOT_VIT, "timm")
    _check_arguments(named, config)
    hybrid = any(name.startswith(ROOT_ALONE) for name in named)
    named = {_rooted(name): array for name, array in named.items()}
    mean, std = _range(config)
    named = rescaled(named, STEM, mean, std, padded=hybrid)
    if "attn_pool.latent" in named and "attn_pool.q.bias" in named:
        named = _with_biases(named)
    if "pos_embed" in named:
        named.update(_positions(named, _image_size(config)))
    return named, ignored


@reads_config
def canonical_bit(arrays: Arrays, config: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Plain names; images must be in [-1, 1] already, since the stem pads.

    Raises:
      UserError: it is no BiT ResNet.
    """
    named, ignored = _stripped(arrays, "stem.conv.weight")
    refuse([*named], _NOT_BIT, "timm")
    architecture = config.get("architecture", "")
    if architecture and not BIT_ARCHITECTURE.fullmatch(architecture):
        raise UserError(f"architecture = {architecture!r}: of timm's ResNetV2, only resnetv2_*_bit can be built here")
    if config.get("global_pool", "avg") not in ("avg", ""):
        raise UserError(f"global_pool = {config['global_pool']!r}: ResNets here pool by avg")
    mean, std = _range(config)
    return rescaled(named, "stem.conv", mean, std, padded=True), ignored


def _rooted(name: str) -> str:
    """The stem of a trunk without stages under the name it has in others."""
    alone = re.match(re.escape(ROOT_ALONE) + r"(?=(conv|norm)\.)", name)
    return ROOT + name.removeprefix(ROOT_ALONE) if alone else name


def _with_biases(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """timm's attention pooling has biases even where `qkv_bias=False`; ours are in all attention or in none."""
    without = {
        f"{name.removesuffix('.weight')}.bias": np.zeros(len(array), np.float32)
        for name, array in named.items()
        if re.fullmatch(r"blocks\.\d+\.attn\.qkv\.weight", name)
    }
    return {**without, **named}


def _positions(named: Mapping[str, np.ndarray], size: tuple[int, int] | None) -> dict[str, np.ndarray]:
    """`pos_embed` for class token and patches, and `reg_token` with its share of it.

    timm's tables cover [class token, registers, patches], the patches alone (`no_embed_class`), or, in models from
    elsewhere, all but the registers.
    """
    table, width = named["pos_embed"], named["pos_embed"].shape[-1]
    table = table.reshape(1, -1, width)
    cls = int("cls_token" in named)
    registers = named["reg_token"].shape[1] if "reg_token" in named else 0
    front = _front(table.shape[1], _patches(named, size) if size else None, (cls + registers, cls, 0))
    result = {"pos_embed": table}
    if registers and front == cls + registers:
        result["reg_token"] = named["reg_token"] + table[:, cls:front]
        result["pos_embed"] = np.concatenate([table[:, :cls], table[:, front:]], axis=1)
    elif cls and front == 0:
        result["pos_embed"] = np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)
    return result


def _front(rows: int, patches: int | None, choices: Sequence[int]) -> int:
    """How many rows are not of patches; without or in spite of a known image size: so that the others are a square."""
    if patches is not None and rows - patches in choices:
        return rows - patches
    square = [front for front in choices if front < rows and math.isqrt(rows - front) ** 2 == rows - front]
    return square[0] if square else choices[0]


def _patches(named: Mapping[str, np.ndarray], size: tuple[int, int]) -> int:
    """Number of patches of images of this (height, width)."""
    stages = layers([*named], r"patch_embed\.backbone\.stages\.(\d+)\.")
    stride = 4 * 2 ** max(0, stages - 1) if f"{ROOT}conv.weight" in named else 1
    patch = named[f"{STEM}.weight"].shape[-2:]
    return math.prod(-(-side // stride) // p for side, p in zip(size, patch, strict=True))


def _arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("model_args") or {}


def _about(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`pretrained_cfg`, which early folders have at the top."""
    return config.get("pretrained_cfg", config)


def _image_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    found = _arguments(config).get("img_size")
    if found is None and "input_size" in _about(config):
        found = _about(config)["input_size"][1:]
    return None if found is None else size_of(found)


def _range(config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation; without a config those of the models that Google released."""
    about = _about(config)
    mean, std = ([finite(value) for value in about.get(key) or [0.5]] for key in ("mean", "std"))
    return mean, std


def _check_arguments(named: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    """Refuses what changes the model without leaving a trace in its arrays."""
    arguments, architecture = _arguments(config), config.get("architecture", "")
    pool = arguments.get("global_pool", config.get("global_pool", ""))
    fits = "map" if "attn_pool.latent" in named else "token" if "cls_token" in named else "avg"
    if pool and pool != fits:
        raise UserError(f"global_pool = {pool!r}: timm models with these arrays can be read with {fits!r} only")
    if arguments.get("pool_include_prefix", architecture.startswith("test_vit3")):
        raise UserError("pool_include_prefix = True: here pooling leaves registers out")
    if "_rpn_" in architecture:  # its arrays have the usual names
        raise UserError(f"architecture = {architecture!r}: its blocks normalise after attention and MLP, ours before")
    if arguments.get("norm_layer") not in (None, "layernorm"):
        raise UserError(f"norm_layer = {arguments['norm_layer']!r}: only 'layernorm' can be built here")
    activation = arguments.get("act_layer")
    if activation is not None and activation not in GELUS.values():
        raise UserError(f"act_layer = {activation!r}: must be one of {', '.join(GELUS.values())}")


# Architectures with the tanh approximation by default. timm 1.0.31 has no others that can be built here.
_TANH = re.compile(r"vit_((so400m|giantopt)_patch16|base_patch32)_siglip_.*|vit_large_patch16_siglip_(gap_)?512")
# Attention heads by the name of the architecture, which go before those by the size in it.
_HEADS = {
    r"vit_base_patch16_gap_224": 16,
    r"vit_.*_plus_\d+": 14,
    r"test_vit": 2,
    r"test_vit3": 3,
}
_HEADS_BY_SIZE = {
    "tiny": 3,
    **dict.fromkeys(("wee", "xsmall"), 4),
    "little": 5,
    "small": 6,
    **dict.fromkeys(("medium", "mediumd"), 8),
    "betwixt": 10,
    "base": 12,
    "so150m2": 13,
    "so150m": 14,
    **dict.fromkeys(("large", "huge", "giant", "giantopt", "gigantic", "so400m"), 16),
}


def _heads(named: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, int]:
    """{"heads": ...} from the arguments, the architecture or, without those, the encoder's size; else nothing."""
    if "num_heads" in _arguments(config):
        return {"heads": int(_arguments(config)["num_heads"])}
    architecture = config.get("architecture", "")
    exact = [heads for pattern, heads in _HEADS.items() if re.fullmatch(pattern, architecture)]
    size = re.match(r"(?:vit|deit3?|flexivit)_([a-z0-9]+)", architecture)
    by_size = _HEADS_BY_SIZE.get(size[1]) if size else None
    if exact or by_size:
        return {"heads": exact[0] if exact else by_size or 0}
    return known_heads(named[f"{STEM}.weight"].shape[0], layers([*named], r"blocks\.(\d+)\."))


@reads_config
def hints_vit(arrays: Arrays, config: Mapping[str, Any]) -> Hints:
    """Heads, GELU, image size, class names and pre-processing.

    Without `config.json` the heads are those of the published encoder of that size, if there is one, and the GELU is
    exact, as it is in all but a few of timm's models.
    """
    activation = _arguments(config).get("act_layer")
    tanh = activation == GELUS["tanh"] if activation else _TANH.fullmatch(config.get("architecture", ""))
    settings = {**_heads(arrays, config), "gelu": "tanh" if tanh else "erf"}
    if "pos_embed" not in arrays and _arguments(config).get("pos_embed") == "none":
        settings["posemb"] = "none"
    return Hints(settings, _image_size(config), _labels(arrays, config, HEAD), _eval_preprocess(config))


@reads_config
def hints_bit(arrays: Arrays, config: Mapping[str, Any]) -> Hints:
    """Image size, class names and pre-processing."""
    return Hints({}, _image_size(config), _labels(arrays, config, BIT_HEAD), _eval_preprocess(config))


def _labels(arrays: Arrays, config: Mapping[str, Any], classifier: str) -> tuple[str, ...] | None:
    if f"{classifier}.weight" not in arrays:
        return None
    return in_order(config.get("label_names") or _about(config).get("label_names"))


def _eval_preprocess(config: Mapping[str, Any]) -> str | None:
    """What timm's `transforms_imagenet_eval` does, but for the filter, which is always bilinear here.

    None where our operations cannot say it: borders, crops of squashed images, crops that are not square.
    """
    about, size = _about(config), _image_size(config)
    if size is None or "crop_pct" not in about:
        return None
    share, mode = finite(about["crop_pct"]), about.get("crop_mode", "center")
    if mode == "squash" and share == 1:
        return "decode|resize"
    return cropped(size, math.floor(size[0] / share)) if mode == "center" and size[0] == size[1] else None


LAYOUTS = (
    Layout("timm", VIT_RULES, recognises_vit, canonical_vit, hints_vit),
    Layout("timm", BIT_RULES, recognises_bit, canonical_bit, hints_bit),
)
