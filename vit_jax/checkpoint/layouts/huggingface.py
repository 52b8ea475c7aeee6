"""The files of Hugging Face's ViT and Bit models, with or without classifier.

Names as `save_pretrained` of transformers 4 and 5 writes them. In memory transformers 5 calls the ViT's layers
otherwise; state dicts saved from there are read as well.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax.checkpoint.layouts.layout import Hints, Layout
from vit_jax.checkpoint.layouts.pytorch import (
    PIXEL_SCALE,
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
from vit_jax.checkpoint.layouts.timm import HEADS_FIRST, HEADS_LAST
from vit_jax.errors import UserError

VIT, BIT = "vit.", "bit."
CLASSIFIERS = {VIT: "classifier.", BIT: "classifier.1."}
GELUS = {
    **dict.fromkeys(("gelu_pytorch_tanh", "gelu_new", "gelu_fast"), "tanh"),
    **dict.fromkeys(("gelu", "gelu_python"), "erf"),
}
# Defaults of ViTConfig, for what a config leaves out.
_DEFAULT_GELU, _DEFAULT_EPSILON = "gelu", 1e-12
# Values of BitConfig that make it the released BiT; they change the model without a trace in its arrays.
BIT_CONFIG = {
    "layer_type": "preactivation",
    "hidden_act": "relu",
    "global_padding": None,
    "num_groups": 32,
    "embedding_dynamic_padding": False,
    "output_stride": 32,
}

_ANCHORS = {VIT: "embeddings.patch_embeddings.projection.weight", BIT: "embedder.convolution.weight"}
_LAYER = "vit.encoder.layer.{i}"


def _vit_rules() -> Iterator[Rule]:
    yield rule("cls", "vit.embeddings.cls_token")
    yield rule("pos_embedding", "vit.embeddings.position_embeddings")
    yield rule("embedding/kernel", "vit.embeddings.patch_embeddings.projection.weight", "h w i o -> o i h w")
    yield rule("embedding/bias", "vit.embeddings.patch_embeddings.projection.bias")
    yield from norm("blocks/norm1", f"{_LAYER}.layernorm_before")
    yield from norm("blocks/norm2", f"{_LAYER}.layernorm_after")
    for part in ("query", "key", "value"):
        yield rule(f"blocks/attn/{part}/kernel", f"{_LAYER}.attention.attention.{part}.weight", HEADS_FIRST)
        yield rule(f"blocks/attn/{part}/bias", f"{_LAYER}.attention.attention.{part}.bias", "k e -> (k e)")
    yield rule("blocks/attn/out/kernel", f"{_LAYER}.attention.output.dense.weight", HEADS_LAST)
    yield rule("blocks/attn/out/bias", f"{_LAYER}.attention.output.dense.bias")
    yield from linear("blocks/mlp/dense1", f"{_LAYER}.intermediate.dense")
    yield from linear("blocks/mlp/dense2", f"{_LAYER}.output.dense")
    yield from norm("norm", "vit.layernorm")
    yield from linear("pre_logits", "vit.pooler.dense")
    yield from linear("head", "classifier")


def _bit_rules() -> Iterator[Rule]:
    yield from trunk_rules("bit.embedder.convolution", "bit.encoder.stages.{s}.layers.{u}")
    yield from norm("norm", "bit.norm")
    yield from linear("head", "classifier.1")


VIT_RULES = tuple(_vit_rules())
BIT_RULES = tuple(_bit_rules())

# Names in the memory of transformers 5 -> on disk.
_ON_DISK = (
    (r"^vit\.layers\.", "vit.encoder.layer."),
    (r"\.attention\.([qkv])_proj\.", r".attention.attention.\1."),
    (r"\.attention\.attention\.q\.", ".attention.attention.query."),
    (r"\.attention\.attention\.k\.", ".attention.attention.key."),
    (r"\.attention\.attention\.v\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_BUFFER = re.compile(r".*\.(num_batches_tracked|position_ids)")
_NOT_VIT = {
    r".*distillation_token|(cls|distillation)_classifier\..*": "it has a distillation token",
    r".*\.lambda_[12]|.*relative_position_bias.*": "its attention is BEiT's",
}
_NOT_BIT = {
    r"bit\.embedder\.norm\..*": "its units normalise after each convolution; BiT's do before",
    r".*\.(running_mean|running_var)": "it has BatchNorm",
}


def _outer(names: set[str], base: str) -> tuple[str, str] | None:
    """(what wrappers put in front of every name, the base model's own prefix or nothing); None for another format."""
    anchor = re.compile(rf"((?:module\.|model\.|_orig_mod\.)*)({re.escape(base)}|){re.escape(_ANCHORS[base])}")
    found = next((match for name in names if (match := anchor.fullmatch(name))), None)
    return (found[1], found[2]) if found else None


def recognises_vit(names: set[str]) -> bool:
    """Whether these are the arrays of a ViT model, or of one of its relatives, which are refused later."""
    return _outer(names, VIT) is not None and any(".layernorm_before." in name for name in names)


def recognises_bit(names: set[str]) -> bool:
    """Whether these are the arrays of a Bit model, or of one of its relatives, which are refused later."""
    return _outer(names, BIT) is not None and any(".layers.0.norm3." in name for name in names)


def _full(arrays: Arrays, base: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Names as the model with classifier has them, and names that are no parameters."""
    found = _outer(set(arrays), base)
    assert found is not None, "recognises_* said yes"
    outer, inner = found
    named, ignored = {}, []
    for name, array in arrays.items():
        if not name.startswith(outer) or _BUFFER.fullmatch(name):
            ignored.append(name)
            continue
        short = name.removeprefix(outer)
        bare = not inner and not short.startswith(CLASSIFIERS[base])
        named[base + short if bare else short] = array
    return named, ignored


@reads_config
def canonical_vit(arrays: Arrays, config: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Names on disk of the model with classifier; images in [-1, 1].

    `pooler` is our `pre_logits` in a model without classifier. Beside one nothing reads it. The mask token serves
    pre-training only.

    Raises:
      UserError: the model has parts that ours lacks, or the config asks for something we do not have.
    """
    named, ignored = _full(arrays, VIT)
    refuse([*named], _NOT_VIT, "Hugging Face")
    for old, new in _ON_DISK:
        named = {re.sub(old, new, name): array for name, array in named.items()}
    unused = [name for name in named if name == f"{VIT}embeddings.mask_token"]
    if "classifier.weight" in named:
        unused += [name for name in named if name.startswith(f"{VIT}pooler.")]
    elif f"{VIT}pooler.dense.weight" in named and config.get("pooler_act", "tanh") != "tanh":
        raise UserError(f"pooler_act = {config['pooler_act']!r}: only 'tanh' can be built here")
    named = {name: array for name, array in named.items() if name not in unused}
    mean, std = _range(config)
    return rescaled(named, f"{VIT}embeddings.patch_embeddings.projection", mean, std, padded=False), ignored + unused


@reads_config
def canonical_bit(arrays: Arrays, config: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Names of the model with classifier; images must be in [-1, 1] already, since the stem pads.

    Raises:
      UserError: it is no BiT ResNet as released.
    """
    named, ignored = _full(arrays, BIT)
    refuse([*named], _NOT_BIT, "Hugging Face")
    for field, wanted in BIT_CONFIG.items():
        if config.get(field, wanted) != wanted:
            raise UserError(f"{field} = {config[field]!r}: only {wanted!r}, as in BiT, can be built here")
    mean, std = _range(config)
    return rescaled(named, f"{BIT}embedder.convolution", mean, std, padded=True), ignored


def _processor(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`preprocessor_config.json`, if there is one."""
    return config.get("preprocessor") or {}


def _range(config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of pixels in [0, 1]; without a file those of the models that Google released."""
    processor = _processor(config)
    scale = finite(processor.get("rescale_factor", PIXEL_SCALE)) if processor.get("do_rescale", True) else 1.0
    if abs(scale / PIXEL_SCALE - 1) > 1e-6:
        raise UserError(f"preprocessor_config.json scales pixels by {scale}: must be 1/255")
    if not processor.get("do_normalize", True):
        return [0.0], [1.0]
    mean, std = ([finite(v) for v in processor.get(key) or [0.5]] for key in ("image_mean", "image_std"))
    return mean, std


@reads_config
def hints_vit(arrays: Arrays, config: Mapping[str, Any]) -> Hints:
    """Heads, GELU, epsilon, image size, class names and pre-processing.

    Without `config.json` the heads are those of the published encoder of that size, if there is one, and the rest is
    what ViTConfig has by default.
    """
    activation = config.get("hidden_act", _DEFAULT_GELU)
    if activation not in GELUS:
        raise UserError(f"hidden_act = {activation!r}: must be one of {', '.join(GELUS)}")
    if "num_attention_heads" in config:
        heads = {"heads": int(config["num_attention_heads"])}
    else:
        width = arrays[f"{VIT}embeddings.patch_embeddings.projection.weight"].shape[0]
        heads = known_heads(width, layers([*arrays], r"vit\.encoder\.layer\.(\d+)\."))
    epsilon = finite(config.get("layer_norm_eps", _DEFAULT_EPSILON))
    settings = {**heads, "gelu": GELUS[activation], "norm_epsilon": epsilon}
    size = size_of(config["image_size"]) if "image_size" in config else None
    return Hints(settings, size, _labels(arrays, config, VIT), _eval_preprocess(config, size))


@reads_config
def hints_bit(arrays: Arrays, config: Mapping[str, Any]) -> Hints:
    """Image size (that of the crop), class names and pre-processing."""
    processor = _processor(config)
    crop = processor.get("crop_size") if processor.get("do_center_crop") else None
    sides = crop or processor.get("size")
    size = None if sides is None or "shortest_edge" in _mapping(sides) else size_of(sides)
    return Hints({}, size, _labels(arrays, config, BIT), _eval_preprocess(config, size))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _labels(arrays: Arrays, config: Mapping[str, Any], base: str) -> tuple[str, ...] | None:
    """Class names, unless there is no classifier or they are those that transformers makes up."""
    names = in_order(config.get("id2label")) if f"{CLASSIFIERS[base]}weight" in arrays else None
    return None if names == tuple(f"LABEL_{i}" for i in range(len(names or ()))) else names


def _eval_preprocess(config: Mapping[str, Any], size: tuple[int, int] | None) -> str | None:
    """What the image processor does, but for the filter, which is always bilinear here; None where we cannot say it."""
    processor = _processor(config)
    if size is None or not processor or not processor.get("do_resize", True):
        return None
    resized = processor.get("size", size)
    shorter = _mapping(resized).get("shortest_edge")
    if processor.get("do_center_crop"):
        whole = size_of(processor.get("crop_size", size)) == size
        return cropped(size, int(shorter)) if shorter and whole else None
    return "decode|resize" if shorter is None and size_of(resized) == size else None


LAYOUTS = (
    Layout("Hugging Face", VIT_RULES, recognises_vit, canonical_vit, hints_vit),
    Layout("Hugging Face", BIT_RULES, recognises_bit, canonical_bit, hints_bit),
)
