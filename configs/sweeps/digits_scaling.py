"""The paper's scaling study in miniature: ViTs, hybrids and ResNets on the embedded digits.

    vit_jax sweep --config=configs/sweeps/digits_scaling.py --workdir=study
    vit_jax report --workdir=study        # study/report/report.html

Each model is pre-trained on 16 x 16 pixels, with linear 5-shot tests on the way, and then fine-tuned at 24 pixels from
its own weights: the rows of the paper's table 6, its figure 5 and the figures of section 4.4, drawn from runs that
anybody can do. `:seeds=3` repeats all of it, for means over seeds.

What the paper found (section 4.4): at equal accuracy ViTs need two to four times less compute than ResNets, hybrids
are ahead at small budgets. Nothing says that digits of 8 x 8 pixels show the same: here convolutions help.
"""

from ml_collections import ConfigDict

from vit_jax.recipes import parse_argument

TRUNK = ("model.variant", "model.trunk_units", "model.depth")


def get_config() -> ConfigDict:
    """What all runs share."""
    return ConfigDict(
        {
            "model": {"remat": "none"},
            "data": {
                "task": "digits",
                "channels": 1,
                "image_size": (16, 16),
                "train_preprocess": "decode|resize|random_affine(degrees=12, shift=0.08, scale=0.12)",
                "eval_preprocess": "decode|resize",
            },
            "train": {"batch_size": 128, "duration": "20 epochs"},
            "optimizer": {"name": "adamw", "beta2": 0.95, "weight_decay": 0.05, "clip_norm": 1.0},
            "schedule": {"name": "cosine", "learning_rate": 4e-3, "warmup": "10%"},
            "checkpoint": {"every": "100%"},
            "evaluate": {"every": "25%"},
            "evaluators": {"few": {"kind": "fewshot", "shots": (5,), "every": "100%"}},
            "log": {"every": "5 steps", "tensorboard": False},
        }
    )


def get_hyper(hyper, argument=""):
    """Ten models, two of them trained for a second length; each pre-trained, then fine-tuned."""
    seeds = parse_argument(argument, seeds=1)["seeds"]
    vits = hyper.table(("model.variant", "model.depth"), [("mu/4", 1), ("mu/4", 3), ("nano/4", 2), ("nano/4", 4)])
    hybrids = hyper.table(TRUNK, [("R26+mu/16", (1,), 1), ("R26+nano/16", (1,), 2), ("R26+nano/16", (2,), 4)])
    resnets = hyper.table(TRUNK[:2], [("R26x1", (1,)), ("R26x1", (2,)), ("R26x1", (2, 2))])
    # A second length of training where another model would add little: families are compared where their curves meet.
    short = [
        hyper.table((*TRUNK, "train.duration"), [("R26+mu/16", (1,), 1, "3 epochs")]),
        hyper.table((*TRUNK[:2], "train.duration"), [("R26x1", (1,), "3 epochs")]),
    ]
    models = hyper.chainit([vits, hybrids, resnets, *short])
    if seeds > 1:
        models = hyper.product([models, hyper.sweep("seed", range(seeds))])
    transfer = hyper.table(
        ("train.duration", "train.batch_size", "data.image_size", "schedule.learning_rate"),
        [("90 steps", 64, (24, 24), 2e-3)],
    )
    return hyper.then(models, transfer)
