"""Fine-tuning by the BiT-HyperRule: one rule for every data set (arXiv 1912.11370, section 3.3).

    vit_jax train --config=configs/bit_hyperrule.py:R50x1,cifar10 --workdir=w
    vit_jax train --config=configs/bit_hyperrule.py:R152x4,imagenet2012 --workdir=w

The argument is a model and a data set of the catalog. The rule looks at two things: below 20,000 training images it
takes 500 steps and no mixup, below 500,000 it takes 10,000, else 20,000, both with mixup 0.1; pictures with an area
below 96 x 96 are resized to 160 and cropped to 128, larger ones to 448 and 384 (512 and 480 for R152x4). SGD with
momentum 0.9 and 0.003, batch 512, a tenth of the rate at three points (at 40, 60 and 80 % of the shortest run, 30, 60
and 90 % of the others), warm-up of 500 steps (100 of the shortest), as in big_transfer's code.

| argument | published | source | hardware and time |
| R50x1,imagenet2012 | 80.68 % | big_transfer README | 8 V100; not stated |
| R50x1,cifar10 | 97.2 to 97.4 % (batch 128, rate 0.001) | big_transfer README | not stated |
| R50x1,cifar100 | 86.4 to 86.6 % (batch 128, rate 0.001) | big_transfer README | not stated |
| R101x3,cifar10 | 98.4 to 98.6 % (batch 128, rate 0.001) | big_transfer README | not stated |
| R101x3,cifar100 | 90.8 to 91.2 % (batch 128, rate 0.001) | big_transfer README | not stated |
| R152x4,imagenet2012 | 87.54 +- 0.02 % (from JFT) | ViT paper, table 2 | 9,900 TPUv3 core-days with pre-training |
| R152x4,oxford_iiit_pet | 96.62 +- 0.23 % (from JFT) | ViT paper, table 2 | as above |
"""

from ml_collections import ConfigDict

from vit_jax.data import catalog
from vit_jax.recipes import parse_argument


def get_config(argument: str) -> ConfigDict:
    """The config of `<model>,<data set>`."""
    arg = parse_argument(argument, "model", "dataset")
    model, task = arg["model"], catalog.get(arg["dataset"])
    if not task.examples:
        raise ValueError("the rule needs the number of training images; the catalog does not know it")
    small = task.examples < 20_000
    steps = 500 if small else 10_000 if task.examples < 500_000 else 20_000
    released = "/" not in model and model.removeprefix("R") in ("50x1", "50x3", "101x1", "101x3", "152x2", "152x4")
    return ConfigDict(
        {
            "model": {"variant": model, "dtype": "bfloat16"},
            "init": {"checkpoint": f"BiT-M-{model}" if released else f"<weights of {model}: a workdir or file>"},
            "data": {"task": task.name, "crops": "bit_large" if model == "R152x4" else "bit"},
            "train": {"batch_size": 512, "duration": f"{steps} steps", "mixup": 0.0 if small else 0.1},
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "schedule": {
                "name": "staircase",
                "learning_rate": 0.003,
                "warmup": f"{100 if small else 500} steps, at most 20%",
                "boundaries": ("40%", "60%", "80%") if small else ("30%", "60%", "90%"),
            },
            "checkpoint": {"every": "1k steps, at most 50%"},
            "evaluate": {"every": "20%"},
        }
    )
