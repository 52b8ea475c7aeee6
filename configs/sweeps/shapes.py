"""Which dimension of a ViT to scale (arXiv 2010.11929, appendix D.2, figure 8).

    vit_jax sweep --config=configs/sweeps/shapes.py --workdir=study

The base has 8 layers, width 1024, MLP 2048 and patches of 32; depth, width, the MLP, the patch and all of them at once
are scaled from there. Measure and data are those of the paper: linear 5-shot accuracy (ImageNet, and the mean over
several data sets) after pre-training on JFT-300M. The figure has no table of values: the sizes are ours, in steps of
about two in compute. Heads have 64 dimensions each.

What the paper found: depth helps most, visibly up to 64 layers, with less to gain after 16; width least; smaller
patches help without any new parameters; scaling all dimensions together is robust.
"""

BASE = (8, 1024, 2048, 32)  # depth, width, MLP, patch
DEPTHS = (2, 4, 16, 32, 64)
WIDTHS = (512, 1536, 2048, 3072)
MLPS = (1024, 4096, 8192, 16_384)
PATCHES = (28, 16, 14, 8)
ALL = ((4, 512, 1024, 32), (12, 1280, 2560, 28), (16, 1536, 3072, 16), (24, 2048, 4096, 14))


def get_hyper(hyper, argument=""):
    """The base and its 21 relatives; the argument is the data set to pre-train on, in place of JFT."""
    depth, width, mlp, patch = BASE
    shapes = [BASE]
    shapes += [(d, width, mlp, patch) for d in DEPTHS]
    shapes += [(depth, w, mlp, patch) for w in WIDTHS]
    shapes += [(depth, width, m, patch) for m in MLPS]
    shapes += [(depth, width, mlp, p) for p in PATCHES]
    shapes += ALL
    keys = ("model.depth", "model.width", "model.heads", "model.mlp_dim", "model.patch")
    points = [hyper.fixed("config", "configs/pretrain.py:L/32,jft,fewshot")]
    points.append(hyper.table(keys, [(d, w, w // 64, m, p) for d, w, m, p in shapes]))
    points += [hyper.fixed("data.name", argument)] if argument else []
    return hyper.product(points)
