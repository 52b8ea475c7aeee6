"""The paper's way in miniature on the embedded digits, for one family: trains it all and prints the numbers as JSON.

Usage: miniature.py <family> <data_dir> <folder> <seeds>

For each seed: pre-training, fine-tuning at a higher resolution, few-shot tests of the pre-trained and of a fresh
backbone; and, of models with tokens, masked patch prediction without labels, then fine-tuning with a few labels a
class, beside training from scratch with the same labels.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from vit_jax.settings import build
from vit_jax.train import Reporter, RunSettings, train

TRUNK = {"trunk_units": (1,), "trunk_width": 1}


@dataclasses.dataclass(frozen=True)
class Family:
    """What differs between the families, chosen so that each learns in seconds.

    Attributes:
      model: its settings.
      side: of the images in pixels.
      larger: of the images that are fine-tuned on.
      epochs: of pre-training.
      rate: of fine-tuning.
      target: of masked patch prediction; empty for models without tokens.
      labels: a class, that are left after it.
    """

    model: dict[str, Any]
    side: int
    larger: int
    epochs: int
    rate: float
    target: str = ""
    labels: int = 0


FAMILIES = {
    "vit": Family({"variant": "nano/2", "depth": 3}, 8, 16, 30, 0.03, "mean_colour", 5),
    "hybrid": Family({"variant": "R26+nano/16", "depth": 2, **TRUNK}, 24, 32, 10, 0.06, "small_colours", 2),
    "resnet": Family({"variant": "R26x1", **TRUNK}, 16, 24, 10, 0.06),
}
AUGMENT = "decode|resize|random_affine(degrees=12, shift=0.08, scale=0.12)"


class Study:
    """Runs of one family and seed.

    Args:
      family: see `FAMILIES`.
      data_dir: where the digits are prepared.
      folder: of all workdirs.
      seed: of every run.
    """

    def __init__(self, family: str, data_dir: str, folder: Path, seed: int):
        self.family = FAMILIES[family]
        self._data_dir, self._folder, self._seed = data_dir, folder, seed

    def run(self, name: str, **groups: dict[str, Any]) -> dict[str, dict[str, float]]:
        """Trains; keyword arguments are groups of the config. The results of all evaluators."""
        config: dict[str, Any] = {
            "seed": self._seed,
            "model": {**self.family.model, "remat": "none"},
            "data": {
                "task": "digits",
                "data_dir": self._data_dir,
                "channels": 1,
                "image_size": (self.family.side,),
                "train_preprocess": AUGMENT,
                "eval_preprocess": "decode|resize",
            },
            "train": {"batch_size": 128},
            "optimizer": {"beta2": 0.95, "weight_decay": 0.05, "clip_norm": 1.0},
            "schedule": {"learning_rate": 2e-3, "warmup": "10%"},
            "checkpoint": {"every": "100%"},
            "evaluate": {"every": "100%"},
            "log": {"tensorboard": False, "every": "100%"},
        }
        for group, values in groups.items():
            config[group] = {**config.get(group, {}), **values}
        return train(build(RunSettings, config), self.folder(name), reporter=Reporter(False)).evaluations

    def folder(self, name: str) -> Path:
        """The workdir of a run."""
        return self._folder / f"{name}_{self._seed}"

    def pretrain_and_transfer(self) -> dict[str, float]:
        """Accuracies before and after fine-tuning at a higher resolution, and few-shot accuracies."""
        shots = {"shots": {"kind": "fewshot", "shots": (5,), "every": "100%"}}
        before = self.run("pretrained", train={"duration": f"{self.family.epochs} epochs"}, evaluators=shots)
        fresh = self.run("fresh", train={"duration": "1 step"}, schedule={"learning_rate": 0.0}, evaluators=shots)
        after = self.run(
            "finetuned",
            init={"checkpoint": str(self.folder("pretrained"))},
            data={"image_size": (self.family.larger,)},
            train={"duration": "300 steps"},
            optimizer={"name": "sgd", "weight_decay": 0.0},
            schedule={"learning_rate": self.family.rate},
        )
        return {
            "pretrained": before["eval"]["accuracy"],
            "finetuned": after["eval"]["accuracy"],
            "few_shot": before["shots"]["5_shot"],
            "few_shot_fresh": fresh["shots"]["5_shot"],
        }

    def masked_then_few_labels(self) -> dict[str, float]:
        """Accuracies with few labels a class, after masked patch prediction and from scratch."""
        family = self.family
        masked = {**family.model, "pool": "none", "class_token": False, "mask_token": True}
        objective = {"objective": "masked_patches", "duration": "60 epochs"}
        self.run("masked", model=masked, train=objective, masked={"target": family.target})
        few: dict[str, dict[str, Any]] = {
            "model": {**family.model, "pool": "gap"},
            "data": {"subset": f"{family.labels} per class"},
            "train": {"batch_size": 10 * family.labels, "duration": "150 steps"},
        }
        start = {"checkpoint": str(self.folder("masked"))}
        return {
            "few_labels": self.run("few", **few, init=start)["eval"]["accuracy"],
            "few_labels_scratch": self.run("scratch", **few)["eval"]["accuracy"],
        }


def main() -> None:
    """See the top of the file."""
    family, data_dir, folder, seeds = sys.argv[1:]
    for seed in range(int(seeds)):
        study = Study(family, data_dir, Path(folder), seed)
        found = study.pretrain_and_transfer()
        if study.family.target:
            found |= study.masked_then_few_labels()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
