"""A linear classifier on a frozen backbone, trained by SGD.

    vit_jax train --config=configs/linear_probe.py:B/16,cifar10 --config.init.checkpoint=<weights> --workdir=w

The argument is a model and a data set of the catalog. Everything but the classifier is frozen by one rule of
`config.optimizer.learning_rate_rules`; no gradient is computed for it. `vit_jax fewshot` and the evaluator `linear`
solve the same task in closed form, without augmentation. Numbers depend on the backbone; none are published for these
settings.

| argument | published | source | hardware and time |
| B/16,cifar10 | not stated | - | - |
| R50x1,imagenet2012 | not stated | - | - |
"""

from ml_collections import ConfigDict

from vit_jax.data import catalog
from vit_jax.recipes import parse_argument


def get_config(argument: str) -> ConfigDict:
    """The config of `<model>,<data set>`."""
    arg = parse_argument(argument, "model", "dataset")
    task = catalog.get(arg["dataset"])
    return ConfigDict(
        {
            "model": {"variant": arg["model"], "dtype": "bfloat16"},
            "init": {"checkpoint": f"<weights of {arg['model']}: a workdir or file>"},
            "data": {"task": task.name, "crops": "pretrain"},
            "train": {"batch_size": 512, "duration": f"{task.tuning.steps if task.tuning else 20_000} steps"},
            "optimizer": {
                "name": "sgd",
                "momentum": 0.9,
                "learning_rate_rules": (("head/.*", 1.0), (".*", 0.0)),
            },
            "schedule": {"name": "cosine", "learning_rate": 0.1, "warmup": "500 steps, at most 20%"},
            "checkpoint": {"every": "1k steps, at most 50%"},
            "evaluate": {"every": "20%"},
        }
    )
