"""The ViT paper's scaling study (arXiv 2010.11929, section 4.4, figure 5, table 6): 7 ResNets, 6 ViTs, 5 hybrids.

    vit_jax sweep --config=configs/sweeps/scaling_study.py --dry_run
    vit_jax sweep --config=configs/sweeps/scaling_study.py:name=my_set --workdir=study --where=slurm -- --nodes=8 ...
    vit_jax report --workdir=study --paper

Each model is pre-trained on JFT-300M, or a set like it, with the learning rate and the epochs of table 3, and then
fine-tuned from its own weights on ImageNet (also tested on ImageNet-ReaL), CIFAR-10, CIFAR-100, Pets and Flowers;
linear few-shot tests run during pre-training. The argument joins options by commas: `name=<data set>` is the set to
pre-train on, `pretrain` leaves out transfers and few-shot tests, and with them the need to prepare their data sets,
`nofewshot` only the latter.

What the paper found: at equal accuracy, averaged over the five data sets, ViTs need about two to four times less
compute than ResNets; hybrids are ahead at small budgets, and the gap closes; nothing saturates. Fine-tuning here takes
the middle learning rate of table 4's grids; `vit_jax finetune-grid --config.init.checkpoint=study/runs/<name>` chooses
among all of them on held-out images, as the paper does.
"""

from vit_jax.recipes import parse_argument

# (model, epochs): the rows of table 6.
VITS = [("B/32", 7), ("B/16", 7), ("L/32", 7), ("L/16", 7), ("L/16", 14), ("H/14", 14)]
RESNETS = [("R50x1", 7), ("R50x2", 7), ("R101x1", 7), ("R152x1", 7), ("R152x2", 7), ("R152x2", 14), ("R200x3", 14)]
HYBRIDS = [("R50+B/32", 7), ("R50+B/16", 7), ("R50+L/32", 7), ("R50+L/16", 7), ("R50+L/16", 14)]
TRANSFERS = ("imagenet2012", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")


def get_hyper(hyper, argument=""):
    """Eighteen models, and five transfers of each."""
    options = parse_argument(argument, name="", pretrain=False, nofewshot=False)
    fewshot = "" if options["pretrain"] or options["nofewshot"] else ",fewshot"
    rows = [*VITS, *RESNETS, *HYBRIDS]
    models = [f"{model},jft,epochs={epochs}{fewshot}" for model, epochs in rows]
    pretraining = hyper.sweep("config", [f"configs/pretrain.py:{model}" for model in models])
    if options["name"]:
        pretraining = hyper.product([pretraining, hyper.fixed("data.name", options["name"])])
    if options["pretrain"]:
        return pretraining

    def transfers(parent):
        model = parent["config"].partition(":")[2].partition(",")[0]
        configs = [f"configs/finetune.py:{model},{task}" for task in TRANSFERS]
        points = hyper.sweep("config", configs)
        return hyper.when({"config": configs[0]}, points, {"evaluators.real.task": "imagenet2012_real"})

    return hyper.then(pretraining, transfers)
