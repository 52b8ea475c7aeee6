"""Pre-training as in table 3 of the ViT paper (arXiv 2010.11929).

    vit_jax train --config=configs/pretrain.py:B/16,imagenet21k --workdir=w
    vit_jax train --config=configs/pretrain.py:L/16,jft,epochs=14 --config.data.name=my_set --workdir=w

The argument is a model and `imagenet2012`, `imagenet21k` or `jft`, which stands for any large set of yours with several
labels an image. `epochs=<n>` trains longer or shorter; `fewshot` adds linear few-shot tests, whose data sets must be
prepared. Any ResNet or hybrid can be trained on ImageNet, too, with the numbers of the ViTs: the paper has no rows.

All: Adam with 0.9 and 0.999, batch 4096, warm-up of 10k steps, 224 pixels, inception crop and flip, sigmoid loss with
head bias -10, weight decay decoupled and multiplied by the learning rate, on kernels. The paper does not state loss,
head bias and the end of the linear decay; they are from its authors' answers (vision_transformer, issues 2 and 34).
R152x2 for 14 epochs and R200x3 have results but no row: they take the numbers of R152.

Results of jft are ImageNet top-1 after fine-tuning at 384 pixels (table 6), of imagenet21k and imagenet2012 the
precision@1 on held-out images of the same set at the end of pre-training, then fine-tuned (table 5).

| argument | published | source | hardware and time |
| B/32,jft | ImageNet 80.73 % | table 6 | TPUv3; 55 exaFLOPs |
| B/16,jft | ImageNet 84.15 % | table 6 | TPUv3; 224 exaFLOPs |
| L/32,jft | ImageNet 84.37 % | table 6 | TPUv3; 196 exaFLOPs |
| L/16,jft | ImageNet 86.30 % | table 6 | TPUv3; 783 exaFLOPs |
| L/16,jft,epochs=14 | ImageNet 87.12 %; 87.76 % at 512 px | tables 6, 2 | 680 TPUv3 core-days |
| H/14,jft | ImageNet 88.08 %; 88.55 % at 518 px | tables 6, 2 | 2,500 TPUv3 core-days |
| R50x1,jft | ImageNet 77.54 % | table 6 | TPUv3; 50 exaFLOPs |
| R50x2,jft | ImageNet 82.12 % | table 6 | TPUv3; 199 exaFLOPs |
| R101x1,jft | ImageNet 80.67 % | table 6 | TPUv3; 96 exaFLOPs |
| R152x1,jft | ImageNet 81.88 % | table 6 | TPUv3; 141 exaFLOPs |
| R152x2,jft | ImageNet 84.97 % | table 6 | TPUv3; 563 exaFLOPs |
| R152x2,jft,epochs=14 | ImageNet 85.56 % | table 6 | TPUv3; 1,126 exaFLOPs |
| R200x3,jft | ImageNet 87.22 % | table 6 | TPUv3; 3,306 exaFLOPs |
| R50+B/32,jft | ImageNet 84.90 % | table 6 | TPUv3; 106 exaFLOPs |
| R50+B/16,jft | ImageNet 85.58 % | table 6 | TPUv3; 274 exaFLOPs |
| R50+L/32,jft | ImageNet 85.68 % | table 6 | TPUv3; 246 exaFLOPs |
| R50+L/16,jft | ImageNet 86.60 % | table 6 | TPUv3; 859 exaFLOPs (834 by its own rule) |
| R50+L/16,jft,epochs=14 | ImageNet 87.12 % | table 6 | TPUv3; 1,668 exaFLOPs |
| B/32,imagenet21k | 44.04 %; ImageNet 81.28 % | issue 62, table 5 | TPUv3; not stated |
| B/16,imagenet21k | 47.88 %; ImageNet 83.97 % | issue 62, table 5 | TPUv3; not stated |
| L/32,imagenet21k | 45.42 %; ImageNet 80.99 % | issue 62, table 5 | TPUv3; not stated |
| L/16,imagenet21k | 49.90 %; ImageNet 85.15 % | issue 62, table 5 | 230 TPUv3 core-days |
| L/16,imagenet21k,epochs=30 | not stated | table 3 | a third of 90 epochs |
| H/14,imagenet21k | 49.06 %; ImageNet 85.13 % | issue 62, table 5 | TPUv3; not stated |
| B/32,imagenet2012 | 69.19 %; 73.38 % at 384 px | issue 62, table 5 | TPUv3; not stated |
| B/16,imagenet2012 | 74.79 %; 77.91 % at 384 px | issue 62, table 5 | TPUv3; not stated |
| L/32,imagenet2012 | 66.90 %; 71.16 % at 384 px | issue 62, table 5 | TPUv3; not stated |
| L/16,imagenet2012 | 72.59 %; 76.53 % at 384 px | issue 62, table 5 | TPUv3; not stated |
| R50x1,imagenet2012 | not stated; compare configs/bit.py | - | - |
| R50+B/16,imagenet21k | ImageNet 83.72 to 85.08 % | vision_transformer README | TPUv3; not stated |
"""

from ml_collections import ConfigDict

from vit_jax.recipes import parse_argument

# Table 3. JFT: (learning rate, epochs) of each model; R200x3 is not in it, see above.
JFT = {
    "B/32": (8e-4, 7),
    "B/16": (8e-4, 7),
    "L/32": (6e-4, 7),
    "L/16": (4e-4, 7),
    "H/14": (3e-4, 14),
    "R50x1": (1e-3, 7),
    "R50x2": (1e-3, 7),
    "R101x1": (8e-4, 7),
    "R152x1": (6e-4, 7),
    "R152x2": (6e-4, 7),
    "R200x3": (6e-4, 14),
    "R50+B/32": (8e-4, 7),
    "R50+B/16": (8e-4, 7),
    "R50+L/32": (2e-4, 7),
    "R50+L/16": (4e-4, 7),
}

# Linear few-shot tests on the data sets that big_vision, the later public code, uses.
FEWSHOT = {
    "fewshot_imagenet": {"task": "imagenet2012"},
    "fewshot_cifar100": {"task": "cifar100"},
    "fewshot_pets": {"task": "oxford_iiit_pet"},
    "fewshot_caltech": {"name": "caltech101", "support": "train", "split": "test"},
    "fewshot_dtd": {"name": "dtd", "support": "train", "split": "test"},
    "fewshot_cars": {"name": "cars196", "support": "train", "split": "test"},
    "fewshot_merced": {"name": "uc_merced", "support": "train[:1000]", "split": "train[1000:]"},
}


def get_config(argument: str) -> ConfigDict:
    """The config of `<model>,<data set>[,epochs=<n>][,fewshot]`."""
    arg = parse_argument(argument, "model", "dataset", epochs=0, fewshot=False)
    model, dataset = arg["model"], arg["dataset"]
    transformer = "/" in model
    rate, epochs, decay, dropout, schedule = _row(model, dataset)
    return ConfigDict(
        {
            "model": {
                "variant": model,
                "dtype": "bfloat16",
                "head_bias": -10.0,
                **({"pre_logits": True, "dropout": dropout} if transformer else {}),
            },
            "data": {"task": dataset, "crops": "pretrain"},
            "train": {"batch_size": 4096, "duration": f"{arg['epochs'] or epochs} epochs", "loss": "sigmoid"},
            "optimizer": {
                "name": "adamw",
                "weight_decay": decay,
                "clip_norm": 1.0 if dataset == "imagenet2012" else 0.0,
            },
            "schedule": {
                "name": schedule,
                "learning_rate": rate,
                "warmup": "10k steps, at most 20%",
                "end_factor": 1e-5 / rate if schedule == "linear" else 0.0,
            },
            "checkpoint": {"every": "5k steps, at most 10%"},
            "evaluate": {"every": "5k steps, at most 10%"},
            "evaluators": {
                name: {"kind": "fewshot", "every": "10k steps, at most 20%", **about}
                for name, about in (FEWSHOT.items() if arg["fewshot"] else ())
            },
        }
    )


def _row(model: str, dataset: str) -> tuple[float, int, float, float, str]:
    """(learning rate, epochs, weight decay, dropout, schedule) of table 3."""
    if dataset == "imagenet21k":
        return 1e-3, 90, 0.03, 0.1, "linear"
    if dataset == "imagenet2012":
        return 3e-3, 300, 0.3, 0.1, "cosine"
    if dataset != "jft":
        raise ValueError("the data set must be jft, imagenet21k or imagenet2012; set config.data.task for others")
    if model not in JFT:
        raise ValueError(f"table 3 has {', '.join(JFT)}; take the nearest and set config.model.variant")
    rate, epochs = JFT[model]
    return rate, epochs, 0.1, 0.0, "linear"
