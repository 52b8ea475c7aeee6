"""How every parameter of every family lies on several meshes, as text. `python tests/parallel/layouts.py` writes it.

One file a family, one line a parameter: its shape, and for each mesh the axis that splits each dimension, `-` for none;
`whole` where nothing is split.
"""

from pathlib import Path

from jax.sharding import PartitionSpec

from vit_jax import parallel
from vit_jax.models import Model, ModelSettings

GOLDEN = Path(__file__).parent / "golden"

FAMILIES = {
    "vit": Model(ModelSettings("L/16", pre_logits=True), (224, 224), 3, 1000),
    "map_head": Model(ModelSettings("S/16", pool="map", registers=4, layer_scale=1e-4), (224, 224), 3, 1000),
    "positions": Model(ModelSettings("B/16", posemb="relative", posemb_at="every_layer"), (384, 384), 3, 1000),
    "axial": Model(ModelSettings("B/16", pool="gap", axial=True, posemb="learned_2d"), (224, 224), 3, 1000),
    "22b": Model(ModelSettings("22B/14", pool="map"), (224, 224), 3, 21_841),
    "hybrid": Model(ModelSettings("R50+B/16"), (224, 224), 3, 1000),
    "resnet": Model(ModelSettings("R50x1"), (224, 224), 3, 1000),
}
MESHES = {
    "data 8": (1, 8, 1, 1),
    "fsdp 8": (1, 1, 8, 1),
    "tensor 4": (1, 2, 1, 4),
    "fsdp 4 x tensor 2": (1, 1, 4, 2),
    "replica 2 x fsdp 2 x tensor 2": (2, 1, 2, 2),
}


def specs(model: Model, sizes: tuple[int, ...]) -> dict[str, PartitionSpec]:
    """{parameter: how it is split}."""
    mesh = parallel.abstract_mesh(sizes)
    return {n: parallel.parameter_spec(shape, model.logical_axes[n], mesh) for n, shape in model.shapes.items()}


def text(model: Model) -> str:
    """The table of a family."""
    columns = [specs(model, sizes) for sizes in MESHES.values()]
    rows = [("parameter", "shape", *MESHES)]
    for name, shape in model.shapes.items():
        rows.append((name, "x".join(map(str, shape)), *(_said(column[name]) for column in columns)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _said(spec: PartitionSpec) -> str:
    if not any(spec):
        return "whole"
    return " ".join("+".join([axes] if isinstance(axes, str) else axes or ["-"]) for axes in spec)


if __name__ == "__main__":
    for family, model in FAMILIES.items():
        (GOLDEN / f"{family}.txt").write_text(text(model), encoding="utf-8")
