"""Shapes by formula: ViTs of compute-optimal shape (arXiv 2305.13035, SoViT), beside those of the ViT paper.

    vit_jax sweep --config=configs/sweeps/sovit.py --workdir=study

From a small shape that is optimal for a small budget, width, depth and MLP grow as powers of the compute: slowest the
width, fastest the MLP (`vit_jax.scaling.sovit_shape`). Each shape is trained for a budget that has grown as much, on
sets like JFT-3B. The argument is the data set. For comparison: B/14 and L/14 on the same budgets.

What the paper found: SoViT-150m/14 (880 wide, 18 deep, MLP 2320) has 78.5 % in 10-shot ImageNet where B/14 has 76.6 %
for the same compute; SoViT-400m/14 (1152, 27, 4304) matches g/14 with 2.5 times fewer parameters.
"""

from vit_jax.scaling import Shape, sovit_shape

# Budgets, as multiples of that of the smallest shape on 600M images (section 3).
FACTORS = (1, 10, 100, 1000)
SMALLEST = 600e6
USUAL = {"B/14": (Shape(768, 12, 3072, 12), 100), "L/14": (Shape(1024, 24, 4096, 16), 1000)}


def images(shape, factor):
    """What a budget leaves for a shape."""
    return f"{SMALLEST * factor * sovit_shape(1).multiply_adds / shape.multiply_adds / 1e6:.0f}M examples"


def get_hyper(hyper, argument=""):
    """Four shapes by the rule, and two by table 1 of the ViT paper."""
    keys = ("model.width", "model.depth", "model.mlp_dim", "model.heads", "train.duration")
    shapes = [(sovit_shape(factor), factor) for factor in FACTORS]
    rows = [(s.width, s.depth, s.mlp_dim, s.heads, images(s, factor)) for s, factor in shapes]
    rule = hyper.product([hyper.fixed("model.variant", "B/14"), hyper.table(keys, rows)])
    usual = [(model, images(shape, factor)) for model, (shape, factor) in USUAL.items()]
    others = hyper.table(("model.variant", "train.duration"), usual)
    points = [hyper.fixed("config", "configs/pretrain.py:B/16,jft,fewshot"), hyper.chainit([rule, others])]
    points += [hyper.fixed("data.name", argument)] if argument else []
    return hyper.product(points)
