"""What `config.data` may say."""

import dataclasses
from typing import Any

from vit_jax.data import catalog
from vit_jax.errors import BadSetting, did_you_mean

RESIZE_SMALL_RATIO = 1.143  # of `resize_small`: 256 for images of 224


# What a field that is left empty means where no task says it.
_WITHOUT_TASK: dict[str, Any] = {
    "name": "digits",
    "train_split": "train",
    "label_key": "label",
    "image_size": (224, 224),
    "train_preprocess": "decode|inception_crop|flip",
    "eval_preprocess": "decode|resize_small|central_crop",
}


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """A data set and how its images become batches.

    A task of the catalog (`vit_jax data --catalog`) fills every field below that is left empty; without a task the
    empty ones take the defaults given here.

    Attributes:
      task: name of the task, or empty.
      stage: which splits of the task: `final` trains on all of its training images and tests on its test split, `dev`
        holds some out of training to choose hyperparameters with.
      crops: sizes and crops of the task: `pretrain`, `vit`, `bit` or `bit_large`; by default the task's own.
      augment: operations that training adds after the task's crop and flip, such as `randaugment(2, 10)`.
      name: a TFDS name (`digits`, the default, is embedded), `folder` for <data_dir>/<split>/<class>/* images,
        `manifest` for a CSV or JSONL list of images, `synthetic`, or several joined by `+`, see
        `vit_jax.data.opening`.
      data_dir: where it lies; by default TFDS's own place ($TFDS_DATA_DIR or ~/tensorflow_datasets).
      train_split: split expression to train on, for example `train[:90%]`; `train` by default.
      subset: part of `train_split` to train on: `10%`, `9M` (or `9000000`) examples or `5 per class`; smaller ones lie
        within larger ones. Other splits stay whole.
      subset_seed: another one gives another subset.
      image_key: feature of a TFDS record that holds the image.
      label_key: feature of a TFDS record that holds the label or the list of labels, `label` by default; None where a
        label operation of the pre-processing computes it.
      union_labels: lets the parts of a mixture have different classes; those of the same name are one.
      image_size: (height, width) the model sees; one number means a square. 224 by default.
      channels: of the images: 3, or 1 for grayscale.
      train_preprocess: operations on each training image, see `vit_jax.data.ops`; by default
        `decode|inception_crop|flip` and those of `augment`.
      eval_preprocess: operations on each image that is evaluated or predicted; by default
        `decode|resize_small|central_crop`.
      prefetch: batches kept ready on the host.
      threads: that decode and resize; by default as many as this process has cores.
      on_error: `skip` counts and names images that cannot be used, goes on without them, and gives up when they are
        more than 1 %; `raise` stops at the first.
    """

    task: str = ""
    stage: str = "final"
    crops: str = ""
    augment: str = ""
    name: str = ""
    data_dir: str | None = None
    train_split: str = ""
    subset: str | None = None
    subset_seed: int = 0
    image_key: str = "image"
    label_key: str | None = ""
    union_labels: bool = False
    image_size: tuple[int, ...] = ()
    channels: int = 3
    train_preprocess: str = ""
    eval_preprocess: str = ""
    prefetch: int = 2
    threads: int | None = None
    on_error: str = "skip"

    def __post_init__(self) -> None:
        self._fill()
        if len(self.image_size) not in (1, 2) or any(side < 1 for side in self.image_size):
            raise BadSetting("image_size", self.image_size, "write (height, width) or one number, in pixels")
        if self.channels not in (1, 3):
            raise BadSetting("channels", self.channels, "must be 3 (colour) or 1 (grayscale)")
        if self.prefetch < 1:
            raise BadSetting("prefetch", self.prefetch, "must be at least 1")
        if self.threads is not None and self.threads < 1:
            raise BadSetting("threads", self.threads, "must be at least 1, or None for one a core")
        if self.on_error not in ("skip", "raise"):
            raise BadSetting("on_error", self.on_error, "must be skip or raise")

    def _fill(self) -> None:
        """Gives the empty fields their values: those of the task, or the defaults."""
        if self.stage not in ("dev", "final"):
            raise BadSetting("stage", self.stage, "must be dev or final")
        if self.crops and self.crops not in catalog.CROPS:
            raise BadSetting("crops", self.crops, did_you_mean(self.crops, catalog.CROPS))
        found = dict(_WITHOUT_TASK)
        if self.task:
            found = catalog.settings_for(self.task, self.stage, self.crops or None, self.name or None)["data"]
        if self.augment and self.train_preprocess and not self.train_preprocess.endswith(self.augment):
            fix = "config.data.train_preprocess is given, too: write the operations there"
            raise BadSetting("augment", self.augment, fix)
        if self.augment and "train_preprocess" in found:
            found["train_preprocess"] += f"|{self.augment}"
        for field, value in found.items():
            if getattr(self, field) in ("", ()):
                object.__setattr__(self, field, value)

    @property
    def test_split(self) -> str:
        """The split to evaluate on where nothing else is said: the task's, or `test`."""
        return catalog.settings_for(self.task, self.stage)["evaluate"]["split"] if self.task else "test"

    @property
    def height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        return (self.image_size[0], self.image_size[-1])
