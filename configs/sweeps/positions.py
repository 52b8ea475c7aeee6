"""Position embeddings of ViT-B/16 (arXiv 2010.11929, appendix D.4, table 8).

    vit_jax sweep --config=configs/sweeps/positions.py --workdir=study

None, 1-D, 2-D and relative ones; added at the stem, in every layer, or in every layer but shared. The measure is linear
5-shot accuracy on ImageNet after pre-training on JFT-300M for 7 epochs; the argument is another data set to pre-train
on.

What the paper found: 0.614 without, and between 0.640 and 0.643 with any of them: stem 1-D 0.64206, 2-D 0.64001,
relative 0.64032; every layer 1-D 0.63964, 2-D 0.64046; shared 1-D 0.64292, 2-D 0.64022.
"""

ROWS = [
    ("none", "stem"),
    ("learned_1d", "stem"),
    ("learned_2d", "stem"),
    ("relative", "stem"),
    ("learned_1d", "every_layer"),
    ("learned_2d", "every_layer"),
    ("learned_1d", "shared"),
    ("learned_2d", "shared"),
]


def get_hyper(hyper, argument=""):
    """Eight embeddings."""
    points = [hyper.fixed("config", "configs/pretrain.py:B/16,jft,fewshot")]
    points.append(hyper.table(("model.posemb", "model.posemb_at"), ROWS))
    points += [hyper.fixed("data.name", argument)] if argument else []
    return hyper.product(points)
