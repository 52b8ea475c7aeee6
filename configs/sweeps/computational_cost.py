"""What inference costs (arXiv 2010.11929, appendix D.5, figure 12): images a second, and the largest batch that fits.

    vit_jax sweep --config=configs/sweeps/computational_cost.py --workdir=cost
    vit_jax report --workdir=cost

R50x1, R50x2, R152x4, B/32, L/32, B/16, L/16 and H/14 on pictures of 64, 128, 224, 384 and 512 pixels, without those on
which the patches do not fit. Each run takes one step that changes nothing and then the evaluator `speed`, which tries
batches of 1, 2, 4, ...: the best rate counts, and of devices that tell their memory also the largest batch whose
program fits. The argument is the dtype (bfloat16). FLOPs of the table are those of the one step.

What the paper found, on a TPUv3 core: ViTs are about as fast as ResNets of like size; the cost of attention, growing
with the fourth power of the side, only begins to show for the largest models and pictures; ViTs fit far larger batches,
so they are more efficient in memory. There are no numbers in the text.
"""

from ml_collections import ConfigDict

MODELS = ("R50x1", "R50x2", "R152x4", "B/32", "L/32", "B/16", "L/16", "H/14")
SIZES = (64, 128, 224, 384, 512)


def get_config(dtype="bfloat16"):
    """One step of a batch of one on random images, and the measurement."""
    return ConfigDict(
        {
            "model": {"dtype": dtype},
            "data": {"name": "synthetic"},
            "train": {"batch_size": 1, "duration": "1 step"},
            "optimizer": {"name": "sgd", "momentum": 0.0},
            "schedule": {"name": "constant", "learning_rate": 0.0, "warmup": "0 steps"},
            "checkpoint": {"every": "100%"},
            "evaluate": {"split": ""},
            "evaluators": {"speed": {"kind": "speed", "every": "100%"}},
            "log": {"tensorboard": False},
        }
    )


def get_hyper(hyper):
    """Every model on every size; H/14 sees whole patches at 224 only, and the nearest multiples of 14 are taken."""
    rows = [(model, (size, size)) for model in MODELS[:-1] for size in SIZES]
    rows += [("H/14", (size // 14 * 14,) * 2) for size in SIZES[:-2]]
    return hyper.table(("model.variant", "data.image_size"), rows)
