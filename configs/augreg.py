"""Augmentation and regularisation in place of data: "How to train your ViT?" (AugReg, arXiv 2106.10270).

    vit_jax train --config=configs/augreg.py:B/16,imagenet21k --workdir=w
    vit_jax train --config=configs/augreg.py:S/16,imagenet2012,aug=medium1,epochs=90 --workdir=w

The argument is a model and `imagenet2012` or `imagenet21k`; `aug` and `wd` choose among the paper's levels of
augmentation and weight decay (the best published ones by default), `reg` turns on dropout and stochastic depth of 0.1.

All: Adam, batch 4096, 1e-3 after 10k steps of warm-up, cosine, clipping at 1, 300 epochs. The levels of `light1` to
`strong2` are (mixup, RandAugment layers and magnitude) as in big_vision's public config; RandAugment with magnitude 0
is not nothing.

Results are ImageNet top-1 after fine-tuning at 384 pixels for 20k steps.

| argument | published | source | hardware and time |
| Ti/16,imagenet21k | ImageNet 78.22 % | vision_transformer README | TPUv3; not stated |
| S/32,imagenet21k | ImageNet 79.58 % | vision_transformer README | TPUv3; not stated |
| S/16,imagenet21k | ImageNet 83.73 % | vision_transformer README | TPUv3; not stated |
| B/32,imagenet21k | ImageNet 83.59 % | vision_transformer README | TPUv3; not stated |
| B/16,imagenet21k | ImageNet 85.49 % | vision_transformer README | TPUv3; not stated |
| L/16,imagenet21k | ImageNet 85.59 % | vision_transformer README | TPUv3; not stated |
| R26+S/32,imagenet21k | ImageNet 83.85 % | vision_transformer README | TPUv3; not stated |
| R50+L/32,imagenet21k | ImageNet 85.99 % | vision_transformer README | TPUv3; not stated |
| S/16,imagenet2012 | not stated | big_vision vit_i1k.py | not stated |
| B/16,imagenet2012 | not stated | big_vision vit_i1k.py | not stated |
| B/32,imagenet2012,aug=light1,epochs=90,reg | not stated | arXiv 2106.10270 | not stated |
"""

from ml_collections import ConfigDict

from vit_jax.recipes import parse_argument

# (mixup, RandAugment layers, magnitude).
LEVELS = {
    "none": (0.0, 0, 0),
    "light1": (0.0, 2, 0),
    "light2": (0.2, 2, 10),
    "medium1": (0.2, 2, 15),
    "medium2": (0.5, 2, 15),
    "strong1": (0.5, 2, 20),
    "strong2": (0.8, 2, 20),
}

# (augmentation, weight decay): of the released files that the README recommends, and of big_vision's vit_i1k.py.
BEST = {
    ("Ti/16", "imagenet21k"): ("none", 0.03),
    ("S/32", "imagenet21k"): ("none", 0.1),
    ("S/16", "imagenet21k"): ("light1", 0.03),
    ("B/32", "imagenet21k"): ("light1", 0.1),
    ("B/16", "imagenet21k"): ("medium1", 0.1),
    ("L/16", "imagenet21k"): ("strong1", 0.1),
    ("R26+S/32", "imagenet21k"): ("light1", 0.1),
    ("R50+L/32", "imagenet21k"): ("medium1", 0.1),
    ("Ti/16", "imagenet2012"): ("light1", 0.1),
    ("S/32", "imagenet2012"): ("light2", 0.1),
}


def get_config(argument: str) -> ConfigDict:
    """The config of `<model>,<data set>[,aug=<level>][,wd=<number>][,epochs=<n>][,reg]`."""
    arg = parse_argument(argument, "model", "dataset", aug="", wd=0.0, epochs=300, reg=False)
    if arg["dataset"] not in ("imagenet2012", "imagenet21k"):
        raise ValueError("the data set must be imagenet2012 or imagenet21k; set config.data.task for others")
    aug, decay = BEST.get((arg["model"], arg["dataset"]), ("medium2", 0.1))
    aug, decay = arg["aug"] or aug, arg["wd"] or decay
    if aug not in LEVELS:
        raise ValueError(f"aug must be one of {', '.join(LEVELS)}")
    mixup, layers, magnitude = LEVELS[aug]
    rate = 0.1 if arg["reg"] else 0.0
    large = arg["dataset"] == "imagenet21k"
    return ConfigDict(
        {
            "model": {
                "variant": arg["model"],
                "dtype": "bfloat16",
                "dropout": rate,
                "stochastic_depth": rate,
                "head_bias": -10.0 if large else 0.0,
            },
            "data": {
                "task": arg["dataset"],
                "crops": "pretrain",
                "augment": f"randaugment({layers}, {magnitude})" if layers else "",
            },
            "train": {
                "batch_size": 4096,
                "duration": f"{arg['epochs']} epochs",
                "loss": "sigmoid" if large else "softmax",
                "mixup": mixup,
            },
            "optimizer": {"name": "adamw", "mu_dtype": "bfloat16", "weight_decay": decay, "clip_norm": 1.0},
            "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup": "10k steps, at most 20%"},
            "checkpoint": {"every": "5k steps, at most 10%"},
            "evaluate": {"every": "5k steps, at most 10%"},
        }
    )
