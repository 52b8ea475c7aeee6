"""Self-supervised pre-training by masked patch prediction (ViT paper, arXiv 2010.11929, appendix B.1.2).

    vit_jax train --config=configs/masked_patches.py:B/16,jft --config.data.name=my_set --workdir=m
    vit_jax train --config=configs/finetune.py:B/16,imagenet2012 --config.init.checkpoint=m --workdir=w

The argument is a ViT or hybrid and `jft`, `imagenet21k`, `imagenet2012` or another data set of the catalog; labels are
not looked at. Half of the patches are corrupted: 80 % of these get the mask token, 10 % another patch, 10 % stay; of
hybrids the pixels are hidden, too. The mean 3-bit colour of every corrupted patch is predicted; `target=small_colours`
predicts 4 x 4 parts of each patch, `target=pixels` all of it. Adam, batch 4096, 2e-4 after 10k steps, cosine, 1M steps
(little is gained after 100k). The weight decay is not stated: none. The class token attends and is not trained by any
label.

| argument | published | source | hardware and time |
| B/16,jft | ImageNet 79.9 % after fine-tuning (77.9 % from scratch) | appendix B.1.2 | TPUv3; 14 epochs |
| B/16,jft,target=small_colours | works as well or a little worse | appendix B.1.2 | TPUv3; 14 epochs |
| B/16,jft,target=pixels | slightly worse | appendix B.1.2 | TPUv3; 14 epochs |
| B/16,imagenet2012 | similar gains | appendix B.1.2 | not stated |
| R50+B/16,imagenet2012 | not in the paper | - | - |
"""

from ml_collections import ConfigDict

from vit_jax.recipes import parse_argument


def get_config(argument: str) -> ConfigDict:
    """The config of `<model>,<data set>[,target=<target>]`."""
    arg = parse_argument(argument, "model", "dataset", target="mean_colour")
    return ConfigDict(
        {
            "model": {
                "variant": arg["model"],
                "dtype": "bfloat16",
                "pool": "none",
                "class_token": True,
                "mask_token": True,
            },
            "data": {"task": arg["dataset"], "crops": "pretrain"},
            "train": {"batch_size": 4096, "duration": "1M steps", "objective": "masked_patches"},
            "masked": {"target": arg["target"]},
            "optimizer": {"name": "adam"},
            "schedule": {"name": "cosine", "learning_rate": 2e-4, "warmup": "10k steps, at most 20%"},
            "checkpoint": {"every": "5k steps, at most 10%"},
            "evaluate": {"every": "5k steps, at most 10%"},
        }
    )
