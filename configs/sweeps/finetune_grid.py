"""Fine-tuning grids on held-out images (arXiv 2010.11929, table 4): learning rates and lengths, for one model.

    vit_jax sweep --config=configs/sweeps/finetune_grid.py:B/16,cifar100 --workdir=study
    vit_jax sweep --config=configs/sweeps/finetune_grid.py:B/16,cifar100 --workdir=study --together=8

The argument is a model and a data set of the catalog. All rates of table 4 and three lengths are tried on the images
that are held out of training (10 % of Pets and Flowers, 2 % of CIFAR, 1 % of ImageNet); the report lists them. Such
runs differ in their rates alone, so that several can be trained as one program. `vit_jax finetune-grid` is the whole
protocol: it also trains on all images with the best rate and tests that over seeds.

What the paper found is in configs/finetune.py, row by row.
"""

from vit_jax.data import catalog
from vit_jax.recipes import parse_argument


def get_hyper(hyper, argument):
    """Every rate with every length."""
    arg = parse_argument(argument, "model", "dataset")
    tuning = catalog.get(arg["dataset"]).tuning
    if tuning is None:
        raise ValueError("models are not fine-tuned on this data set; `vit_jax data --catalog` lists others")
    return hyper.product(
        [
            hyper.fixed("config", f"configs/finetune.py:{arg['model']},{arg['dataset']}"),
            hyper.fixed("data.stage", "dev"),
            hyper.sweep("train.duration", [f"{max(tuning.steps // part, 1)} steps" for part in (4, 2, 1)]),
            hyper.sweep("schedule.learning_rate", tuning.learning_rates),
        ]
    )
