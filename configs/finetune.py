"""Fine-tuning as in table 4 of the ViT paper (arXiv 2010.11929).

    vit_jax train --config=configs/finetune.py:B/16,cifar10 --workdir=w
    vit_jax finetune-grid --config=configs/finetune.py:B/16,oxford_iiit_pet --workdir=g
    vit_jax train --config=configs/finetune.py:B/16,cifar100 --config.init.checkpoint=<workdir or file> --workdir=w

The argument is a model and a data set of the catalog (`vit_jax data --catalog`). `table2` adds what the paper did for
its best numbers on ImageNet: 512 pixels (518 for H/14) and averaging with 0.9999. `variants` also tests on
ImageNet-ReaL, ImageNet-v2 and ObjectNet. It starts from the weights that Google released for the model on ImageNet-21k;
`--config.init.checkpoint` takes others: a workdir, a npz, timm's or Hugging Face's.

SGD with momentum 0.9, batch 512, cosine, no weight decay, clipping at 1, 384 pixels, crop of 448, flip, a classifier of
zeros, positions resized. Steps and learning rates to choose from belong to the data set; `vit_jax finetune-grid`
chooses on images held out of training, trains on all of them and reports the test split over several seeds. Warm-up,
loss and dropout (0.1 for L/16, H/14, R50+B/16) are from vision_transformer's code.

Results are test accuracies after pre-training on ImageNet-21k, mean over runs where stated.

| argument | published | source | hardware and time |
| B/16,imagenet2012 | 83.97 %, ReaL 88.35 %; 84.62 % | table 5; vision_transformer README | 8 V100; 17.9 h |
| B/32,imagenet2012 | 81.28 %, ReaL 86.63 %; 81.79 % | table 5; vision_transformer README | 8 V100; 4.2 h |
| L/16,imagenet2012 | 85.15 %, ReaL 88.40 %; 85.07 % | table 5; vision_transformer README | 8 V100; 59.2 h |
| L/32,imagenet2012 | 80.99 %, ReaL 85.65 %; 81.78 % | table 5; vision_transformer README | 8 V100; 14.5 h |
| H/14,imagenet2012 | 85.13 %, ReaL 88.70 % | table 5 | TPUv3; not stated |
| L/16,imagenet2012,table2 | 85.30 +- 0.02 %, ReaL 88.62 % | table 2 | TPUv3; not stated |
| H/14,imagenet2012,table2 | 88.55 +- 0.04 %, ReaL 90.72 % (from JFT) | table 2 | TPUv3; not stated |
| R50+B/16,imagenet2012 | 83.72 to 85.08 % | vision_transformer README | not stated |
| B/16,cifar10 | 98.95 %; 98.92 to 99.03 % | table 5; vision_transformer README | 8 V100; 7.2 h |
| B/32,cifar10 | 98.79 %; 98.93 % | table 5; vision_transformer README | 8 V100; 1.6 h |
| L/16,cifar10 | 99.16 %; 99.07 % | table 5; vision_transformer README | 8 V100; 24.7 h |
| L/32,cifar10 | 99.13 %; 99.03 % | table 5; vision_transformer README | 8 V100; 5.7 h |
| H/14,cifar10 | 99.27 % | table 5 | TPUv3; not stated |
| B/16,cifar100 | 91.67 %; 92.26 % | table 5; vision_transformer README | 8 V100; 7.2 h |
| B/32,cifar100 | 91.97 %; 92.08 % | table 5; vision_transformer README | 8 V100; 1.6 h |
| L/16,cifar100 | 93.44 %; 93.04 % | table 5; vision_transformer README | 8 V100; 24.8 h |
| L/32,cifar100 | 93.04 %; 93.02 % | table 5; vision_transformer README | 8 V100; 6.7 h |
| H/14,cifar100 | 93.82 % | table 5 | TPUv3; not stated |
| B/16,oxford_iiit_pet | 94.43 % | table 5 | TPUv3; not stated |
| B/32,oxford_iiit_pet | 93.02 % | table 5 | TPUv3; not stated |
| L/16,oxford_iiit_pet | 94.73 % | table 5 | TPUv3; not stated |
| L/32,oxford_iiit_pet | 93.09 % | table 5 | TPUv3; not stated |
| H/14,oxford_iiit_pet | 94.82 % | table 5 | TPUv3; not stated |
| B/16,oxford_flowers102 | 99.38 % | table 5 | TPUv3; not stated |
| B/32,oxford_flowers102 | 99.11 % | table 5 | TPUv3; not stated |
| L/16,oxford_flowers102 | 99.61 % | table 5 | TPUv3; not stated |
| L/32,oxford_flowers102 | 99.19 % | table 5 | TPUv3; not stated |
| H/14,oxford_flowers102 | 99.51 % | table 5 | TPUv3; not stated |
| L/16,vtab/caltech101 | 90.8 %; all 19 tasks 72.72 +- 0.21 % | tables 9, 2 | TPUv3; not stated |
| R50x1,cifar10 | compare configs/bit_hyperrule.py | - | - |
"""

from ml_collections import ConfigDict

from vit_jax.data import catalog
from vit_jax.recipes import parse_argument

DROPOUT = {"L/16": 0.1, "H/14": 0.1, "R50+B/16": 0.1}

# Released weights trained on ImageNet-21k, by names that `vit_jax models` lists.
UPSTREAM = {
    **{model: f"imagenet21k/ViT-{model.replace('/', '_')}" for model in ("B/16", "B/32", "L/16", "L/32", "H/14")},
    "R50+B/16": "imagenet21k/R50+ViT-B_16",
    "R50+L/32": "imagenet21k/R50+ViT-L_32",
    **{model: f"BiT-M-{model}" for model in ("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4")},
}


def get_config(argument: str) -> ConfigDict:
    """The config of `<model>,<data set>[,table2][,variants]`."""
    arg = parse_argument(argument, "model", "dataset", table2=False, variants=False)
    model, task = arg["model"], catalog.get(arg["dataset"])
    if task.tuning is None:
        raise ValueError("models are not fine-tuned on this data set; `vit_jax data --catalog` lists others")
    size = (518 if model == "H/14" else 512) if arg["table2"] else 384
    return ConfigDict(
        {
            "model": {
                "variant": model,
                "dtype": "bfloat16",
                **({"dropout": DROPOUT[model]} if model in DROPOUT else {}),
            },
            "init": {"checkpoint": UPSTREAM.get(model, f"<weights of {model}: a workdir or file>")},
            "data": {"task": task.name, "crops": "vit", "image_size": (size, size)},
            "train": {
                "batch_size": 512,
                "duration": f"{task.tuning.steps} steps",
                "ema_decay": 0.9999 if arg["table2"] else 0.0,
            },
            "optimizer": {"name": "sgd", "momentum": 0.9, "mu_dtype": "bfloat16", "clip_norm": 1.0},
            "schedule": {
                "name": "cosine",
                "learning_rate": task.tuning.learning_rates[len(task.tuning.learning_rates) // 2],
                "warmup": f"{task.tuning.warmup} steps, at most 25%",
            },
            "checkpoint": {"every": "1k steps, at most 50%"},
            "evaluate": {"every": "20%"},
            "evaluators": {
                name: {"task": other, "every": "20%"}
                for name, other in (("real", "imagenet2012_real"), ("v2", "imagenet_v2"), ("objectnet", "objectnet"))
                if arg["variants"]
            },
        }
    )
