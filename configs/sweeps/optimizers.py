"""Adam or SGD for pre-training ResNets (arXiv 2010.11929, appendix D.1, table 7).

    vit_jax sweep --config=configs/sweeps/optimizers.py --workdir=study

R50x1 and R152x2 on JFT-300M for 7 epochs with either, then fine-tuned on five data sets. Adam takes the numbers of
table 3. The paper does not give those of SGD; here it has BiT's (arXiv 1912.11370): momentum 0.9, a rate of 0.03 and a
decay of 3e-5 for each 256 images of the batch, cosine, 5k steps of warm-up. The argument is another data set to
pre-train on.

What the paper found: Adam is a little better on most of the data sets, and on average: 89.33 to 88.79 % for R50x1,
94.01 to 93.72 % for R152x2. That is why all its ResNets are trained with it.
"""

TRANSFERS = ("imagenet2012", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")
SGD = {
    "optimizer.name": "sgd",
    "optimizer.weight_decay": 1e-3,  # multiplied by the rate here: 3e-5 / 0.03
    "optimizer.clip_norm": 1.0,
    "schedule.name": "cosine",
    "schedule.learning_rate": 0.03 * 4096 / 256,
    "schedule.warmup": "5k steps, at most 20%",
    "schedule.end_factor": 0.0,
}


def get_hyper(hyper, argument=""):
    """Two models, two optimizers, five transfers of each."""
    models = hyper.sweep("config", [f"configs/pretrain.py:{model},jft" for model in ("R50x1", "R152x2")])
    if argument:
        models = hyper.product([models, hyper.fixed("data.name", argument)])
    sgd = hyper.product([models, *(hyper.fixed(key, value) for key, value in SGD.items())])

    def transfers(parent):
        model = parent["config"].partition(":")[2].partition(",")[0]
        return hyper.sweep("config", [f"configs/finetune.py:{model},{task}" for task in TRANSFERS])

    return hyper.then(hyper.chainit([models, sgd]), transfers)
