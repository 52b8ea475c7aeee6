"""What `config.evaluate` and `config.evaluators` may say."""

import dataclasses

from vit_jax.durations import Duration
from vit_jax.errors import BadSetting, did_you_mean

KINDS = ("classification", "fewshot", "knn", "linear", "speed")
TARGETS = ("mean_colour", "small_colours", "pixels")


@dataclasses.dataclass(frozen=True)
class MaskedSettings:
    """Masked patch prediction (paper, appendix B.1.2).

    Attributes:
      target: what is asked of each corrupted patch: `mean_colour`, its mean with 3 bits a channel, one of 512 classes;
        `small_colours`, the same of each of 4 x 4 parts; `pixels`, all of it, by squared error.
      corrupted: share of the patches that are corrupted, and predicted.
      masked: share of those that the learned mask token replaces.
      swapped: share of those that another patch of the image replaces; the rest stay as they are.
    """

    target: str = "mean_colour"
    corrupted: float = 0.5
    masked: float = 0.8
    swapped: float = 0.1

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise BadSetting("target", self.target, f"must be one of {', '.join(TARGETS)}")
        if not 0.0 < self.corrupted <= 1.0:
            raise BadSetting("corrupted", self.corrupted, "must be above 0 and at most 1")
        for field in ("masked", "swapped"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise BadSetting(field, getattr(self, field), "must be between 0 and 1")
        if self.masked + self.swapped > 1.0:
            raise BadSetting("swapped", self.swapped, f"must be at most {1 - self.masked:g}, what `masked` leaves")


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
    """Exact evaluation during training, on the run's own data set and with its own pre-processing.

    Attributes:
      split: split expression; `auto` is the test split of `config.data.task`, or `test`; empty for none.
      every: how often, besides at the end of the run.
      batch_size: global, of all evaluators; 0 takes the training batch.
    """

    split: str = "auto"
    every: str = "10%"
    batch_size: int = 0

    def __post_init__(self) -> None:
        Duration.parse(self.every, "every")
        if self.batch_size < 0:
            raise BadSetting("batch_size", self.batch_size, "must be positive, or 0 for the training batch")


@dataclasses.dataclass(frozen=True)
class EvaluatorSettings:
    """One more test of a model: on another split or data set, of another kind, or at another interval.

    Where nothing is said, the data set is that of the run. Images have the size that the model takes.

    Attributes:
      kind: `classification` with the model's own classifier; on frozen features `fewshot` (regularised least squares on
        a few images of each class, paper section 4.1), `linear` (the same on all training images) or `knn`; without
        data `speed`, images a second of the forward pass and the largest batch that fits (paper, figure 12).
      task: of the catalog (`vit_jax data --catalog`): gives data set, splits, labels and pre-processing; `vtab` stands
        for its 19 tasks, their means by group and over all.
      every: how often, besides at the end of the run.
      name: data set, as `config.data.name`; by default that of the task.
      data_dir: where it lies; by default as for the run.
      split: that is tested; by default the task's, or `test`.
      support: training images of `fewshot`, `linear` and `knn`; by default the task's, or `train`.
      validation: images to choose `l2` with, where several are given; by default the task's.
      label_key: feature that holds the label; by default the task's, or `label`.
      preprocess: of each image; by default the task's or the run's, for `fewshot` the whole image resized to 8/7 of the
        size and its centre (the protocol of the paper's public code).
      ignore_label_names: the data set's classes have other names than the model's but mean the same.
      shots: images of each class, one result for each number.
      seeds: choices of the few images; results are means over them, with the standard deviation.
      l2: strengths of the regularisation; several are compared on `validation`, and the best one counts.
      bias: value of the constant feature that stands for a bias; 0 for none.
      whiten: give each feature mean 0 and deviation 1 over the support.
      neighbours: of `knn`.
      most: largest batch that `speed` tries, global.
    """

    kind: str = "classification"
    task: str = ""
    every: str = "10%"
    name: str = ""
    data_dir: str | None = None
    split: str = ""
    support: str = ""
    validation: str = ""
    label_key: str | None = ""
    preprocess: str = ""
    ignore_label_names: bool = False
    shots: tuple[int, ...] = (1, 5, 10, 25)
    seeds: int = 3
    l2: tuple[float, ...] = (1024.0,)
    bias: float = 100.0
    whiten: bool = True
    neighbours: int = 20
    most: int = 4096

    def __post_init__(self) -> None:
        Duration.parse(self.every, "every")
        if self.kind not in KINDS:
            raise BadSetting("kind", self.kind, did_you_mean(self.kind, KINDS))
        if not self.shots or min(self.shots) < 1:
            raise BadSetting("shots", self.shots, "must be numbers of at least 1")
        if not self.l2 or min(self.l2) <= 0:
            raise BadSetting("l2", self.l2, "must be one or several positive numbers")
        for field in ("seeds", "neighbours", "most"):
            if getattr(self, field) < 1:
                raise BadSetting(field, getattr(self, field), "must be at least 1")
        if self.bias < 0:
            raise BadSetting("bias", self.bias, "must be positive, or 0 for none")

    @staticmethod
    def parse(text: str) -> "EvaluatorSettings":
        """Reads `task` or `kind:task`, the short form of the command line.

        Raises:
          BadSetting: there is no such kind.
        """
        kind, colon, task = text.partition(":")
        return EvaluatorSettings(kind=kind, task=task) if colon else EvaluatorSettings(task=text)
