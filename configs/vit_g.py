"""Billions of parameters: "Scaling Vision Transformers" (arXiv 2106.04560).

    vit_jax train --config=configs/vit_g.py:g/14 --config.data.name=my_set --workdir=w

The argument is `g/14` or `G/14` (any other size works). Memory-saving Adafactor with a bfloat16 momentum, batch 16,384,
8e-4 after 10k steps, then falling with the square root of the steps, 50k steps of cool-down at the end, weight decay of
0.03 (3 for the classifier), attention pooling, clipping at 1. JFT-3B, with 29,593 classes, is not public.

| argument | published | source | hardware and time |
| g/14 | not stated | big_vision train_vit_g.py | TPUv3, 32 images a core |
| G/14 | ImageNet 90.45 %; 10-shot 84.86 % | arXiv 2106.04560, abstract | TPUv3; not stated |
"""

from ml_collections import ConfigDict


def get_config(model: str) -> ConfigDict:
    """The config of `<model>`."""
    return ConfigDict(
        {
            "model": {
                "variant": model,
                "dtype": "bfloat16",
                "pool": "map",
                "head_bias": -10.0,
                "remat": "full",
            },
            "data": {"task": "jft", "crops": "pretrain"},
            "train": {"batch_size": 16_384, "duration": "1M steps", "loss": "sigmoid"},
            "optimizer": {
                "name": "adafactor",
                "mu_dtype": "bfloat16",
                "weight_decay": 0.03,
                "weight_decay_rules": (("head/kernel", 100.0), (".*/kernel", 1.0), (".*", 0.0)),
                "clip_norm": 1.0,
            },
            "schedule": {
                "name": "rsqrt",
                "learning_rate": 8e-4,
                "warmup": "10k steps, at most 20%",
                "timescale": "10k steps",
                "cooldown": "50k steps, at most 20%",
            },
            "checkpoint": {"every": "1k steps, at most 10%", "keep_every": "10k steps"},
            "evaluate": {"every": "1k steps, at most 10%"},
        }
    )
