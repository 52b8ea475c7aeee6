"""`vit_jax models`."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.models import Model

DESCRIPTION = """\
Lists the named models: size, cost, sequence length and published weights. Nothing is computed, only traced.

  vit_jax models
  vit_jax models B/16 R50+L/32 --image_size=384 --classes=0
  vit_jax models L/16 --json

params     all parameters, with the classifier
GFLOPs     10^9 FLOPs of one image's forward pass without the classifier; a multiply-add is two FLOPs, and taps of
           convolutions on zero padding count, as in most tables (`vit_jax.scaling` also counts as the ViT paper does)
tokens     sequence length with the class token; positions of the last feature map for ResNets
width      with --json: embed size; channels of the last feature map for ResNets
depth      with --json: encoder blocks; bottleneck units for ResNets
published  files that Google released; their names with --json or when models are named. Google closed anonymous
           reading of gs://vit_models in February 2026; the timm/... copies are open"""

VITS = (
    *("Ti/16", "S/32", "S/16", "M/16", "B/32", "B/16", "B/8", "L/32", "L/16"),
    *("So400m/14", "H/14", "g/14", "G/14", "e/14", "22B/14"),
)
HYBRIDS = ("R+Ti/16", "R26+S/32", "R26+B/32", "R50+B/32", "R50+B/16", "R50+L/32", "R50+L/16")
RESNETS = ("R50x1", "R50x2", "R50x3", "R101x1", "R101x3", "R152x1", "R152x2", "R152x4", "R200x3")
TOYS = ("mu/16", "nano/16")

COLUMNS = ("name", "family", "params", "GFLOPs", "tokens", "published")


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("models", DESCRIPTION)
    parser.add_argument("names", nargs="*", metavar="NAME", help="any variants (default: all that have a name)")
    parser.add_argument("--image_size", type=int, default=224, help="side of the square images (default: 224)")
    parser.add_argument("--classes", type=int, default=1000, help="outputs of the classifier, or 0 (default: 1000)")
    parser.add_argument("--all", action="store_true", help="also list the toys of tests and demo")
    parser.add_argument("--json", action="store_true", help="one JSON array on standard output")
    flags, overrides = arguments.parse(parser, argv)
    if overrides:
        parser.error(f"unknown argument {overrides[0]!r}: models are listed by their names alone")
    names = flags.names or [*(TOYS if flags.all else ()), *VITS, *HYBRIDS, *RESNETS]

    from vit_jax.models import Model, ModelSettings

    size = (flags.image_size, flags.image_size)
    # All are checked before the first is traced.
    models = [Model(ModelSettings(name), size, 3, flags.classes) for name in names]
    rows = [_row(model) for model in models]
    if flags.json:
        print(json.dumps(rows))
    else:
        _print(rows, with_files=bool(flags.names))
    return 0


def _row(model: "Model") -> dict[str, Any]:
    from vit_jax.models import forward_flops

    variant = model.settings.variant
    width, depth = _shape(model)
    return {
        "name": variant,
        "family": model.settings.resolved.family,
        "params": model.parameter_count,
        "gflops": round(forward_flops(model, padding_taps=True) / 1e9, 3),
        "tokens": model.tokens,
        "image_size": model.image_size[0],
        "classes": model.classes,
        "width": width,
        "depth": depth,
        "published": _published_names(variant),
    }


def _shape(model: "Model") -> tuple[int, int]:
    """(width, depth) as the help explains them."""
    encoder, trunk = model.settings.resolved.encoder, model.settings.resolved.trunk
    if encoder:
        return encoder.width, encoder.depth
    assert trunk is not None
    return 256 * trunk.width * 2 ** (len(trunk.units) - 1), sum(trunk.units)


def _published_names(variant: str) -> list[str]:
    """What `load` can fetch: each file, and timm's copy right after it."""
    from vit_jax.checkpoint import published

    names = []
    for file in published(variant):
        names += [file.name, f"timm/{file.timm}"] if file.timm else [file.name]
    return names


def _print(rows: list[dict[str, Any]], with_files: bool) -> None:
    table = [COLUMNS]
    for row in rows:
        originals = sum(not name.startswith("timm/") for name in row["published"])
        numbers = (f"{row['params']:,}", f"{row['gflops']:,.1f}", f"{row['tokens']:,}", str(originals or "-"))
        table.append((row["name"], row["family"], *numbers))
    name, family, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
    for line, files in zip(table, [[], *(row["published"] for row in rows)], strict=True):
        right = "  ".join(f"{word:>{width}}" for word, width in zip(line[2:], widths, strict=True))
        print(f"{line[0]:<{name}}  {line[1]:<{family}}  {right}")
        for file in files if with_files else ():
            print(f"    {file}")
