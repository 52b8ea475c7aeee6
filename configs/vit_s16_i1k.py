"""The plain ViT-S/16 on ImageNet-1k: "Better plain ViT baselines" (arXiv 2205.01580).

    vit_jax train --config=configs/vit_s16_i1k.py --workdir=w
    vit_jax train --config=configs/vit_s16_i1k.py:epochs=300 --workdir=w

Mean pooling, fixed sine-cosine positions, RandAugment(2, 10), mixup 0.2, batch 1024, Adam with 1e-3 after 10k steps,
cosine, decoupled weight decay of 1e-4 a step at the full rate (0.1 times the learning rate), clipping at 1. The last
1 % of the training images are held out, as there.

| argument | published | source | hardware and time |
| - | 76.5 % | big_vision vit_s16_i1k.py | TPU v3-8; 6 to 7 hours |
| epochs=300 | 80 % | arXiv 2205.01580, abstract | TPU v3-8; less than a day |
"""

from ml_collections import ConfigDict

from vit_jax.recipes import parse_argument


def get_config(argument: str = "") -> ConfigDict:
    """The config of `[epochs=<n>]`."""
    arg = parse_argument(argument, epochs=90)
    return ConfigDict(
        {
            "model": {
                "variant": "S/16",
                "dtype": "bfloat16",
                "pool": "gap",
                "posemb": "sincos_2d",
                "pre_logits": True,
            },
            "data": {
                "task": "imagenet2012",
                "train_split": "train[:99%]",
                "crops": "pretrain",
                "augment": "randaugment(2, 10)",
            },
            "train": {"batch_size": 1024, "duration": f"{arg['epochs']} epochs", "mixup": 0.2},
            "optimizer": {"name": "adamw", "mu_dtype": "bfloat16", "weight_decay": 0.1, "clip_norm": 1.0},
            "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup": "10k steps, at most 20%"},
            "checkpoint": {"every": "5k steps, at most 10%"},
            "evaluate": {"every": "2500 steps, at most 10%"},
        }
    )
