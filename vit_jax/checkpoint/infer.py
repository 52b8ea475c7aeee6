"""The model that a file's arrays belong to, from their shapes."""

import math
from collections.abc import Mapping
from typing import Any

from vit_jax.checkpoint.layouts.layout import Hints
from vit_jax.checkpoint.positions import square_grid
from vit_jax.errors import UserError
from vit_jax.models import ENCODERS, RESNETS, EncoderShape, Model, ModelSettings, TrunkShape, Variant, parse_variant
from vit_jax.settings import build

Shapes = Mapping[str, tuple[int, ...]]

# BiT was pre-trained at this size; any other runs as well.
RESNET_SIZE = (224, 224)


def infer_model(shapes: Shapes, hints: Hints, where: str, image_size: tuple[int, int] | None = None) -> Model:
    """The model whose parameters have these shapes.

    Args:
      shapes: {our parameter name: shape}.
      hints: what shapes do not tell; its settings win.
      where: the file, for errors.
      image_size: (height, width), used where neither hints nor positions tell it.

    Raises:
      UserError: the arrays are of no model we know.
    """
    try:
        resolved = Variant(*_encoder(shapes), _trunk(shapes))
        about = {**_named(resolved), **_options(shapes), **hints.settings}
        settings = build(ModelSettings, about, "model")
        if resolved.encoder and about["posemb"] == "none" and "posemb" not in hints.settings:
            raise UserError("it has no table of positions: say what it has, model.posemb=sincos_2d or none")
        channels = shapes["trunk/root/kernel" if resolved.trunk else "embedding/kernel"][2]
        classes = shapes["head/kernel"][-1] if "head/kernel" in shapes else 0
        size = hints.image_size or _image_size(shapes, settings, image_size)
        return Model(settings, size, channels, classes)
    except KeyError as error:
        raise UserError(f"{where} lacks {error}, so it is no ViT, hybrid or BiT ResNet that this can read") from None
    except (IndexError, ValueError):
        raise UserError(f"{where} has arrays whose numbers of dimensions are not those of a model") from None
    except UserError as error:
        raise UserError(f"{where} is of a model this cannot build: {error}") from None


def _encoder(shapes: Shapes) -> tuple[EncoderShape | None, int]:
    """(encoder, patch); a ResNet has none."""
    if "embedding/kernel" not in shapes:
        return None, 1
    patch, _, _, width = shapes["embedding/kernel"]
    block = "blocks/row" if "blocks/row/norm1/scale" in shapes else "blocks"
    depth, _, heads, _ = shapes[f"{block}/attn/query/kernel"]
    shape = EncoderShape(
        width,
        depth,
        shapes[f"{block}/mlp/dense1/kernel"][-1],
        heads,
        parallel=f"{block}/norm2/scale" not in shapes,
        qk_norm=f"{block}/attn/query_norm/scale" in shapes,
        qkv_bias=f"{block}/attn/query/bias" in shapes,
        norm="layer" if f"{block}/norm1/bias" in shapes else "rms",
    )
    return shape, patch


def _trunk(shapes: Shapes) -> TrunkShape | None:
    if "trunk/root/kernel" not in shapes:
        return None
    units: list[int] = []
    while (first := f"trunk/block{len(units) + 1}/unit1/conv1/kernel") in shapes:
        others = shapes.get(first.replace("unit1", "units"), (0,))[0]
        units.append(1 + others)
    version = 1 if "trunk/root_norm/scale" in shapes else 2
    return TrunkShape(tuple(units), shapes["trunk/root/kernel"][-1] // 64, version)


def _options(shapes: Shapes) -> dict[str, Any]:
    """Settings that are no part of a variant."""
    if "embedding/kernel" not in shapes:
        return {}
    tables = {name.removeprefix("positions/"): name for name in shapes if "embedding" in name.rpartition("/")[2]}
    kinds = {"pos_embedding": "learned_1d", "pos_embedding_x": "learned_2d", "relative_embedding": "relative"}
    posemb = next((kind for name, kind in kinds.items() if name in tables), "none")
    scales = any(name.endswith("/scale1") for name in shapes)
    return {
        "mask_token": "mask_token" in shapes,
        "pool": "token" if "cls" in shapes else "map" if "map_head/probe" in shapes else "gap",
        "pre_logits": "pre_logits/kernel" in shapes,
        "registers": shapes["registers"][1] if "registers" in shapes else 0,
        "axial": "blocks/row/norm1/scale" in shapes,
        "layer_scale": 1e-5 if scales else 0.0,  # an initial value; trained ones replace it
        "posemb": posemb,
        "posemb_at": "every_layer" if any(name.startswith("positions/") for name in shapes) else "stem",
    }


def _named(found: Variant) -> dict[str, Any]:
    """Settings with these shapes: the variant of that name if there is one, otherwise overrides of one near it."""
    variant = next((v for v in _candidates(found) if parse_variant(v) == found), None)
    if variant:
        return {"variant": variant}
    about: dict[str, Any] = {}
    if found.encoder:
        differences = {name: _different(found.encoder, shape) for name, shape in ENCODERS.items()}
        near = min(differences, key=lambda name: len(differences[name]))
        about.update(differences[near])
        deep = found.trunk and len(found.trunk.units) == 4
        about["variant"] = f"R50+{near}/{32 if deep else 16}" if found.trunk else f"{near}/{found.patch}"
        if found.trunk and found.patch != 1:
            about["patch"] = found.patch
    else:
        about["variant"] = "R50x1"
    if found.trunk:
        about.update(trunk_units=found.trunk.units, trunk_width=found.trunk.width, trunk_version=found.trunk.version)
    return about


def _different(found: EncoderShape, known: EncoderShape) -> dict[str, Any]:
    """What of `found` is not as in `known`."""
    return {name: value for name, value in vars(found).items() if value != getattr(known, name)}


def _candidates(found: Variant) -> list[str]:
    """Variant strings worth trying."""
    if found.encoder is None:
        if found.trunk is None:
            raise KeyError("embedding/kernel")
        return [f"R{layers}x{found.trunk.width}" for layers in RESNETS]
    if found.trunk is None:
        return [f"{name}/{found.patch}" for name in ENCODERS]
    factor = "" if found.trunk.width == 1 else f"x{found.trunk.width}"
    whole = [f"R{layers}{factor}+{name}/{number}" for layers in RESNETS for name in ENCODERS for number in (16, 32)]
    return whole + [f"R{factor}+{name}/16" for name in ENCODERS]


def _image_size(shapes: Shapes, settings: ModelSettings, given: tuple[int, int] | None) -> tuple[int, int]:
    """The smallest image, square where nothing else is known, that gives as many tokens as there are positions."""
    if settings.resolved.encoder is None:
        return given or RESNET_SIZE
    stride = Model(settings, (2**16, 2**16), 3, 0).stride
    if given and min(given) >= stride and Model(settings, given, 3, 0).grid in _grids(shapes, settings):
        return given  # the number of patches is no square, so that nothing but the caller can tell
    prefix = "positions/" if settings.posemb_at == "every_layer" else ""
    if settings.posemb == "learned_2d":
        grid = (shapes[f"{prefix}pos_embedding_y"][-2], shapes[f"{prefix}pos_embedding_x"][-2])
    elif settings.posemb in ("learned_1d", "relative"):
        grid = square_grid(_patches(shapes, settings))
    elif given:
        return given
    else:
        raise UserError("it has no table of positions, which would tell the image size: give image_size")
    return grid[0] * stride, grid[1] * stride


def _patches(shapes: Shapes, settings: ModelSettings) -> int:
    """Number of patch tokens, from a table with one row for each token or offset."""
    prefix = "positions/" if settings.posemb_at == "every_layer" else ""
    cls = int(settings.has_class_token)
    if settings.posemb == "relative":
        return (shapes[f"{prefix}relative_embedding"][-2] + 1) // 2 - settings.registers - cls
    return shapes[f"{prefix}pos_embedding"][-2] - cls


def _grids(shapes: Shapes, settings: ModelSettings) -> list[tuple[int, int]]:
    """All (height, width) that a number of patch tokens leaves open; none for a square or where a table tells them."""
    if settings.posemb not in ("learned_1d", "relative"):
        return []
    patches = _patches(shapes, settings)
    if math.isqrt(patches) ** 2 == patches:
        return []
    return [(h, patches // h) for h in range(1, patches + 1) if patches % h == 0]
