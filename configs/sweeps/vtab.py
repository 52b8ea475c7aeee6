"""VTAB-1k: 19 tasks of 1,000 training images each (arXiv 2010.11929, section 4.2, figure 2, table 9).

    vit_jax sweep --config=configs/sweeps/vtab.py:B/16 --workdir=study
    vit_jax sweep --config=configs/sweeps/vtab.py:B/16,choose --workdir=choose

The argument is a model. The first fine-tunes its released weights on all 1,000 images with the numbers of table 4
(2,500 steps, 0.01) and tests on the whole test split, three times. `choose` compares two learning rates and two lengths
on the 200 held-out images: the paper takes one setting for all tasks, by their mean. `weights=<workdir or file>` starts
from others.

What the paper found, mean over the tasks: H/14 77.63 %, L/16 76.28 % after JFT, 72.72 % after ImageNet-21k; natural,
specialised and structured tasks of H/14: 86.7, 87.0 and 65.0 %.
"""

from vit_jax.data import catalog
from vit_jax.recipes import parse_argument


def get_hyper(hyper, argument):
    """Nineteen tasks, three seeds; or four settings on held-out images."""
    arg = parse_argument(argument, "model", choose=False, weights="")
    tasks = hyper.sweep("config", [f"configs/finetune.py:{arg['model']},{task}" for task in catalog.VTAB])
    if arg["weights"]:
        tasks = hyper.product([tasks, hyper.fixed("init.checkpoint", arg["weights"])])
    if not arg["choose"]:
        return hyper.product([tasks, hyper.sweep("seed", range(3))])
    lengths = hyper.sweep("train.duration", ["500 steps", "2500 steps"])
    rates = hyper.sweep("schedule.learning_rate", [0.003, 0.01])
    return hyper.product([tasks, hyper.fixed("data.stage", "dev"), lengths, rates])
