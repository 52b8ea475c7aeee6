"""How much data each architecture wants (arXiv 2010.11929, section 4.3, figures 3 and 4).

    vit_jax sweep --config=configs/sweeps/data_size.py --workdir=study                    # subsets of JFT, figure 4
    vit_jax sweep --config=configs/sweeps/data_size.py:regularisation --workdir=study2    # small sets, figure 3

Figure 4: ViT-L/16, L/32, B/32, b/32 (B/32 with half the width, which is S/32), R50x1 and R152x2 on 9M, 30M, 90M and all
of JFT-300M, nested subsets, with the hyperparameters of the whole set, no more regularisation, and as many steps each.
The measure is linear 5-shot accuracy on ImageNet. The paper reports the best value during training (early stopping):
all values are in metrics.jsonl. `name=<data set>` is the set to train on.

Figure 3: the ViTs on ImageNet, ImageNet-21k and JFT. On the first two the paper optimises weight decay, dropout and
label smoothing, without saying over which values; those here are ours. Its best are in table 3: decay 0.3 and 0.03,
dropout 0.1.

What the paper found: on 9M images B/32 is far worse than R50, from 90M on better, and so are L/16 and R152x2; on
ImageNet alone L is worse than B, on ImageNet-21k as good, and only JFT shows the full benefit of larger models.
"""

from vit_jax.recipes import parse_argument

SUBSETS = ["9M", "30M", "90M", None]
SEEN = "517792 steps"  # 7 epochs of all 302,982,257 images
MODELS = ("B/16", "B/32", "L/16", "L/32")


def get_hyper(hyper, argument=""):
    """Subsets of JFT; or the regularisation of small sets."""
    options = parse_argument(argument, regularisation=False, name="")
    if options["regularisation"]:
        return _regularisation(hyper)
    models = hyper.sweep("config", [f"configs/pretrain.py:{model},jft,fewshot" for model in ("L/16", "L/32", "B/32")])
    half = hyper.product(
        [hyper.fixed("config", "configs/pretrain.py:B/32,jft,fewshot"), hyper.fixed("model.variant", "S/32")]
    )
    resnets = hyper.sweep("config", [f"configs/pretrain.py:{model},jft,fewshot" for model in ("R50x1", "R152x2")])
    points = [hyper.chainit([models, half, resnets]), hyper.sweep("data.subset", SUBSETS)]
    points.append(hyper.fixed("train.duration", SEEN))
    points += [hyper.fixed("data.name", options["name"])] if options["name"] else []
    return hyper.product(points)


def _regularisation(hyper):
    """Weight decay, dropout and label smoothing on ImageNet and ImageNet-21k; JFT as it is."""
    grid = [
        hyper.sweep("optimizer.weight_decay", [0.03, 0.1, 0.3]),
        hyper.sweep("model.dropout", [0.0, 0.1]),
        hyper.sweep("train.label_smoothing", [0.0, 1e-4]),
    ]
    small = [f"configs/pretrain.py:{model},{data}" for data in ("imagenet2012", "imagenet21k") for model in MODELS]
    large = [f"configs/pretrain.py:{model},jft" for model in MODELS]
    return hyper.chainit([hyper.product([hyper.sweep("config", small), *grid]), hyper.sweep("config", large)])
