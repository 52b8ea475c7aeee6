"""Folders that timm and Hugging Face read: `model.safetensors`, `config.json` and how to prepare images.

A timm folder opens with `timm.create_model("local-dir:<folder>", pretrained=True)`, and with Hugging Face's
`AutoModelForImageClassification` where timm is installed. A Hugging Face folder needs transformers alone, and holds
fewer kinds of models: ViTs with a class token, and BiT ResNets of any size.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vit_jax.checkpoint.archives import INDEX, SINGLE
from vit_jax.checkpoint.card import HUGGING_FACE, TIMM, write_card, write_preprocessing
from vit_jax.checkpoint.files import new_folder
from vit_jax.checkpoint.layouts import huggingface, timm, to_file
from vit_jax.checkpoint.layouts.pytorch import PIXEL_SCALE
from vit_jax.checkpoint.metadata import Metadata
from vit_jax.data import RESIZE_SMALL_RATIO
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import EncoderShape, Model, Params, TokenLayout, parse_variant, position_table
from vit_jax.trees import named_leaves, nested

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
SHARD_BYTES = 5 * 10**9

_ANY = "; an npz export holds every model"
_TIMM = "; export_timm can"
# Ours -> timm's architecture of that size. All others are written as the base model with other arguments.
_ARCHITECTURES = {
    f"{ours}/{patch}": f"vit_{theirs}_patch{patch}_224"
    for ours, theirs, patches in (
        ("Ti", "tiny", (16,)),
        ("S", "small", (8, 16, 32)),
        ("B", "base", (8, 16, 32)),
        ("L", "large", (14, 16, 32)),
        ("H", "huge", (14,)),
        ("g", "giant", (14,)),
        ("G", "gigantic", (14,)),
    )
    for patch in patches
}
_HYBRIDS = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}
_BITS = {f"R{size}": f"resnetv2_{size}_bit" for size in ("50x1", "50x3", "101x1", "101x3", "152x2", "152x4")}
_POOLS = {"token": "token", "gap": "avg", "map": "map"}
_TIMM_EPSILON = 1e-6
_BILINEAR = 2  # Pillow's number


def export_timm(params: Params, metadata: Metadata, path: Path) -> list[Path]:
    """Writes a folder in timm's form: one `model.safetensors` (float32, timm reads no shards) and `config.json`.

    Position embeddings of any kind are written as the table that they add up to. In ResNet trunks timm's epsilons
    differ a little from the released ones (weights: 1e-8 within the root; the hybrids' GroupNorm: 1e-5).

    Args:
      params: arrays that this process can read whole.
      metadata: of the model.
      path: the folder, which must not exist or be empty.

    Returns:
      The files.

    Raises:
      UserError: timm has no such model, or the folder cannot be written.
    """
    model = metadata.model
    is_vit = model.settings.resolved.encoder is not None
    architecture, arguments = _timm_vit(model) if is_vit else _timm_bit(model)
    root = _timm_root(model)
    config = {
        "architecture": architecture,
        "num_classes": model.classes,
        "num_features": model.shapes["norm/scale"][0],
        "global_pool": _POOLS[model.settings.pooling],
        "model_args": arguments,
        "label_names": list(metadata.label_names),
        "pretrained_cfg": {
            "input_size": [model.channels, *model.image_size],
            "fixed_input_size": is_vit,
            "pool_size": None,
            "interpolation": "bilinear",
            **_timm_crop(metadata),
            "mean": [0.5] * model.channels,
            "std": [0.5] * model.channels,
            "num_classes": model.classes,
            "first_conv": f"{root}conv" if root else timm.STEM if is_vit else "stem.conv",
            "classifier": timm.HEAD if is_vit else timm.BIT_HEAD,
        },
    }
    named = _timm_vit_params(params, model) if is_vit else params
    arrays = to_file(named, timm.VIT_RULES if is_vit else timm.BIT_RULES, strict="timm")
    arrays = {name.replace(timm.ROOT, root): array for name, array in arrays.items()}
    return _publish(Path(path), metadata, TIMM, arrays, {CONFIG: config})


def export_huggingface(params: Params, metadata: Metadata, path: Path) -> list[Path]:
    """Writes a folder in Hugging Face's form: weights (float32), `config.json` and `preprocessor_config.json`.

    A model without classifier becomes a ViTModel, whose pooler is our `pre_logits`, or a BitModel. Weights above 5 GB
    are split into several files with an index. As for timm, position embeddings are written as a table, and the
    epsilon of BiT's standardised weights is theirs.

    Args:
      params: arrays that this process can read whole.
      metadata: of the model.
      path: the folder, which must not exist or be empty.

    Returns:
      The files.

    Raises:
      UserError: Hugging Face has no such model, or the folder cannot be written.
    """
    model = metadata.model
    is_vit = model.settings.resolved.encoder is not None
    config = _huggingface_vit(model) if is_vit else _huggingface_bit(model)
    processor = _huggingface_processor(metadata)
    config["architectures"] = [config["architectures"] + ("ForImageClassification" if model.classes else "Model")]
    multi = metadata.config.get("train", {}).get("loss") == "sigmoid"
    config["problem_type"] = "multi_label_classification" if multi else "single_label_classification"
    if model.classes:
        config["id2label"] = {str(i): name for i, name in enumerate(metadata.label_names)}
        config["label2id"] = {name: i for i, name in enumerate(metadata.label_names)}
    rules, base = (huggingface.VIT_RULES, huggingface.VIT) if is_vit else (huggingface.BIT_RULES, huggingface.BIT)
    arrays = to_file(_with_table(params, model) if is_vit else params, rules, strict="Hugging Face")
    if not model.classes:
        arrays = {name.removeprefix(base): array for name, array in arrays.items()}
    texts = {CONFIG: config, PREPROCESSOR: processor}
    return _publish(Path(path), metadata, HUGGING_FACE, arrays, texts, SHARD_BYTES)


def _encoder(model: Model) -> EncoderShape:
    assert model.settings.resolved.encoder is not None
    return model.settings.resolved.encoder


def _check_encoder(model: Model, what: str) -> None:
    """Raises BadSetting for what neither format has."""
    settings, shape = model.settings, _encoder(model)
    if shape.parallel:
        raise BadSetting("parallel", True, f"{what} has attention before the MLP{_ANY}")
    if shape.norm != "layer":
        raise BadSetting("norm", shape.norm, f"{what} has LayerNorm{_ANY}")
    if settings.has_class_token != (settings.pooling == "token"):
        raise BadSetting("class_token", settings.class_token, f"{what} has a class token where it is pooled{_ANY}")
    if settings.mask_token:
        raise BadSetting("mask_token", True, f"{what} leaves no patches out{_ANY}")
    if settings.axial:
        raise BadSetting("axial", True, f"{what} attends over all tokens{_ANY}")
    if settings.posemb == "relative":
        raise BadSetting("posemb", settings.posemb, f"{what} has a table of positions{_ANY}")
    if settings.posemb_at != "stem" and settings.posemb != "none":
        raise BadSetting("posemb_at", settings.posemb_at, f"{what} adds positions at the stem{_ANY}")


def _with_table(params: Params, model: Model) -> Params:
    """The parameters with one table of positions (1, n, d) for the whole sequence; zeros where nothing is added."""
    named = named_leaves(params)
    shape, settings = _encoder(model), model.settings
    tables = {name: array for name, array in named.items() if re.fullmatch(r"pos_embedding(_[xy])?", name)}
    table = position_table(settings.posemb, SimpleNamespace(**tables), TokenLayout.of(settings, model.grid))
    kept = {name: array for name, array in named.items() if name not in tables}
    whole = np.zeros((1, model.tokens, shape.width)) if table is None else np.asarray(table)
    return nested({**kept, "pos_embedding": whole})


def _timm_vit(model: Model) -> tuple[str, dict[str, Any]]:
    """(architecture, arguments) of a ViT or hybrid; every argument is stated, so that any size can be built."""
    settings, shape, patch = model.settings, _encoder(model), model.settings.resolved.patch
    _check_encoder(model, "timm's VisionTransformer")
    if settings.pre_logits:
        raise BadSetting("pre_logits", True, f"timm has no layer between pooling and classifier{_ANY}")
    if settings.pooling not in _POOLS:
        raise BadSetting("pool", settings.pooling, f"timm pools by {', '.join(_POOLS)}{_ANY}")
    if settings.pooling == "map" and shape.qk_norm:
        raise BadSetting("qk_norm", True, f"timm's map head does not normalise queries and keys{_ANY}")
    if settings.norm_epsilon != _TIMM_EPSILON:
        fix = f"a timm folder cannot state it, and timm's is {_TIMM_EPSILON}; export_huggingface can"
        raise BadSetting("norm_epsilon", settings.norm_epsilon, fix)
    arguments = {
        "img_size": _sides(model),
        "patch_size": patch,
        "in_chans": model.channels,
        "embed_dim": shape.width,
        "depth": shape.depth,
        "num_heads": shape.heads,
        "mlp_ratio": _mlp_ratio(shape),
        "qkv_bias": shape.qkv_bias,
        "act_layer": timm.GELUS[settings.gelu],
    }
    if settings.pooling != "token":
        arguments.update(class_token=False, global_pool=_POOLS[settings.pooling], fc_norm=False)
    if settings.registers:
        arguments["reg_tokens"] = settings.registers
    if settings.layer_scale:
        arguments["init_values"] = settings.layer_scale
    if shape.qk_norm:
        arguments["qk_norm"] = True
    return _timm_trunk(model) or _ARCHITECTURES.get(settings.variant, _ARCHITECTURES["B/16"]), arguments


def _timm_trunk(model: Model) -> str:
    """The hybrid architecture with this trunk; nothing for a ViT."""
    trunk, patch = model.settings.resolved.trunk, model.settings.resolved.patch
    if trunk is None:
        return ""
    if trunk.width != 1 or trunk.units not in _HYBRIDS:
        known = ", ".join(map(str, _HYBRIDS))
        raise BadSetting("trunk_units", trunk.units, f"timm's hybrids have {known} units, of width 1{_ANY}")
    if any(model.unseen_pixels):
        fix = f"timm wants patches of {patch} to fill the trunk's output; choose a multiple of {model.stride}"
        raise BadSetting("image_size", model.image_size, fix)
    return _HYBRIDS[trunk.units]


def _timm_root(model: Model) -> str:
    """What comes before the names of a hybrid's stem; nothing for other models."""
    resolved = model.settings.resolved
    if resolved.encoder is None or resolved.trunk is None:
        return ""
    return timm.ROOT if resolved.trunk.units else timm.ROOT_ALONE


def _timm_bit(model: Model) -> tuple[str, dict[str, Any]]:
    resolved = model.settings.resolved
    found = next((name for variant, name in _BITS.items() if parse_variant(variant) == resolved), None)
    if found is None:
        fix = "export_huggingface can" if resolved.trunk and resolved.trunk.version == 2 else _ANY.removeprefix("; ")
        raise BadSetting("variant", model.settings.variant, f"timm's BiT ResNets are {', '.join(_BITS)}; {fix}")
    return found, {"in_chans": model.channels}


def _timm_vit_params(params: Params, model: Model) -> Params:
    """With what timm's model has besides: a row of the table for each register, biases in the map head."""
    named = named_leaves(_with_table(params, model))
    shape = _encoder(model)
    if model.settings.pooling == "map" and not shape.qkv_bias:
        for part in ("query", "key", "value"):
            named[f"map_head/attn/{part}/bias"] = np.zeros((shape.heads, shape.width // shape.heads))
    return nested(named)


def _mlp_ratio(shape: EncoderShape) -> float:
    """timm's hidden size is int(width * ratio)."""
    ratio = shape.mlp_dim / shape.width
    return ratio if int(shape.width * ratio) == shape.mlp_dim else (shape.mlp_dim + 0.5) / shape.width


def _timm_crop(metadata: Metadata) -> dict[str, Any]:
    """timm resizes the shorter side of square models to int(size / crop_pct)."""
    shorter, (height, width) = _shorter_side(metadata), metadata.model.image_size
    if shorter is None:
        return {"crop_pct": 1.0, "crop_mode": "squash"}
    if height != width:
        fix = "timm crops images that are not square otherwise; evaluate with decode|resize"
        raise BadSetting("data.eval_preprocess", metadata.config["data"]["eval_preprocess"], fix)
    candidates = (round(height / shorter, 3), height / shorter, height / (shorter + 0.5))
    share = next(share for share in candidates if math.floor(height / share) == shorter)
    return {"crop_pct": share, "crop_mode": "center"}


def _shorter_side(metadata: Metadata) -> int | None:
    """Pixels of the shorter side before the central crop; None for a resize straight to the image size."""
    text = metadata.config.get("data", {}).get("eval_preprocess", "decode|resize")
    match = re.fullmatch(r"decode\|resize_small(?:\((?:ratio=)?(\d*\.?\d*)\))?\|central_crop", text.replace(" ", ""))
    if match:
        return round(max(metadata.model.image_size) * float(match[1] or RESIZE_SMALL_RATIO))
    if text.replace(" ", "") not in ("decode", "decode|resize"):
        fix = "a folder for PyTorch can say decode|resize or decode|resize_small(ratio)|central_crop"
        raise BadSetting("data.eval_preprocess", text, fix)
    return None


def _sides(model: Model) -> int | list[int]:
    height, width = model.image_size
    return height if height == width else [height, width]


def _huggingface_vit(model: Model) -> dict[str, Any]:
    settings, shape = model.settings, _encoder(model)
    _check_encoder(model, "Hugging Face's ViT")
    if settings.resolved.trunk:
        raise BadSetting("variant", settings.variant, f"transformers has no hybrids any more{_TIMM}")
    if settings.pooling != "token":
        raise BadSetting("pool", settings.pooling, f"Hugging Face's ViT has a class token{_TIMM}")
    for name, used in (
        ("registers", settings.registers),
        ("qk_norm", shape.qk_norm),
        ("layer_scale", settings.layer_scale),
    ):
        if used:
            raise BadSetting(name, used, f"Hugging Face's ViT has none{_TIMM}")
    if settings.pre_logits and model.classes:
        fix = f"Hugging Face's ViT has its pooler only without classifier: set classes to 0{_ANY}"
        raise BadSetting("pre_logits", True, fix)
    return {
        "architectures": "ViT",
        "model_type": "vit",
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.mlp_dim,
        "hidden_act": "gelu_pytorch_tanh" if settings.gelu == "tanh" else "gelu",
        "layer_norm_eps": settings.norm_epsilon,
        "qkv_bias": shape.qkv_bias,
        "image_size": _sides(model),
        "patch_size": settings.resolved.patch,
        "num_channels": model.channels,
        "dtype": "float32",
    }


def _huggingface_bit(model: Model) -> dict[str, Any]:
    trunk = model.settings.resolved.trunk
    assert trunk is not None
    if trunk.version != 2:
        raise BadSetting("trunk_version", trunk.version, f"Hugging Face's Bit is of version 2{_ANY}")
    if not trunk.units:
        raise BadSetting("trunk_units", trunk.units, f"Hugging Face's Bit has at least one stage{_ANY}")
    width = 64 * trunk.width
    return {
        "architectures": "Bit",
        "model_type": "bit",
        **huggingface.BIT_CONFIG,
        # Their own width_factor does not reach the stem.
        "embedding_size": width,
        "hidden_sizes": [4 * width * 2**stage for stage in range(len(trunk.units))],
        "depths": list(trunk.units),
        "num_channels": model.channels,
        "dtype": "float32",
    }


def _huggingface_processor(metadata: Metadata) -> dict[str, Any]:
    """Bit's processor resizes the shorter side and crops, ViT's resizes straight; both go with either model."""
    (height, width), channels = metadata.model.image_size, metadata.model.channels
    shorter, size = _shorter_side(metadata), {"height": height, "width": width}
    resizing = (
        {"image_processor_type": "ViTImageProcessor", "size": size}
        if shorter is None
        else {
            "image_processor_type": "BitImageProcessor",
            "size": {"shortest_edge": shorter},
            "do_center_crop": True,
            "crop_size": size,
        }
    )
    return {
        **resizing,
        "do_convert_rgb": channels == 3,
        "do_resize": True,
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": PIXEL_SCALE,
        "do_normalize": True,
        "image_mean": [0.5] * channels,
        "image_std": [0.5] * channels,
    }


def _publish(
    path: Path,
    metadata: Metadata,
    form: str,
    arrays: Mapping[str, np.ndarray],
    texts: Mapping[str, Mapping[str, Any]],
    limit: float = math.inf,
) -> list[Path]:
    """Makes the folder: arrays as float32 in files of at most `limit` bytes, JSON texts by file name, and the card."""
    with new_folder(path) as folder:
        try:
            _write_arrays(folder, {name: np.asarray(array, np.float32) for name, array in arrays.items()}, limit)
        except SafetensorError as error:
            raise UserError(f"weights cannot be written to {str(path)!r}: {error}") from None
        for name, text in texts.items():
            (folder / name).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
        write_preprocessing(folder, metadata)
        write_card(folder, metadata, sorted(folder.iterdir()), form)
    return sorted(path.iterdir())


def _write_arrays(folder: Path, arrays: Mapping[str, np.ndarray], limit: float) -> None:
    """One safetensors file, or shards and the index that Hugging Face reads."""
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, array in arrays.items():
        if shards[-1] and sum(other.nbytes for other in shards[-1].values()) + array.nbytes > limit:
            shards.append({})
        shards[-1][name] = np.ascontiguousarray(array)
    names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = [SINGLE]
    for file, shard in zip(names, shards, strict=True):
        save_file(shard, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        places = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        index = {"metadata": {"total_size": sum(a.nbytes for a in arrays.values())}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
