"""Pre-training of BiT ResNets with SGD (arXiv 1912.11370).

    vit_jax train --config=configs/bit.py:R50x1,imagenet2012 --workdir=w
    vit_jax train --config=configs/bit.py:R152x4,imagenet21k --workdir=w

The argument is a ResNet and `imagenet2012` or `imagenet21k`. SGD with momentum 0.9, batch 4096, cosine, clipping at 1,
90 epochs. Learning rate and weight decay follow big_vision's configs: 0.1 and 1e-4 (0.03 and 3e-5 on ImageNet-21k) for
each 256 images of the batch; there the decay is not multiplied by the rate, here it is, so it is 1e-3 of it.

| argument | published | source | hardware and time |
| R50x1,imagenet2012 | not stated | big_vision bit_i1k.py | TPU v3-128; 32 minutes |
| R101x1,imagenet2012 | not stated | big_vision bit_i1k.py | not stated |
| R50x1,imagenet21k | ImageNet 80.68 % after bit_hyperrule.py | big_transfer README | not stated |
| R152x4,imagenet21k | not stated | arXiv 1912.11370 | not stated |
"""

from ml_collections import ConfigDict

from vit_jax.recipes import parse_argument

BATCH = 4096


def get_config(argument: str) -> ConfigDict:
    """The config of `<model>,<data set>[,epochs=<n>]`."""
    arg = parse_argument(argument, "model", "dataset", epochs=90)
    if arg["dataset"] not in ("imagenet2012", "imagenet21k"):
        raise ValueError("the data set must be imagenet2012 or imagenet21k; set config.data.task for others")
    large = arg["dataset"] == "imagenet21k"
    return ConfigDict(
        {
            "model": {"variant": arg["model"], "dtype": "bfloat16", "head_bias": -10.0 if large else 0.0},
            "data": {"task": arg["dataset"], "crops": "pretrain"},
            "train": {
                "batch_size": BATCH,
                "duration": f"{arg['epochs']} epochs",
                "loss": "sigmoid" if large else "softmax",
            },
            "optimizer": {"name": "sgd", "weight_decay": 1e-3, "clip_norm": 1.0},
            "schedule": {
                "name": "cosine",
                "learning_rate": (0.03 if large else 0.1) * BATCH / 256,
                "warmup": f"{5 if large else 1}k steps, at most 20%",
            },
            "checkpoint": {"every": "5k steps, at most 10%"},
            "evaluate": {"every": "5k steps, at most 10%"},
        }
    )
