"""What `config.data` may say."""

import dataclasses

from vit_jax.errors import BadSetting

RESIZE_SMALL_RATIO = 1.143  # of `resize_small`: 256 for images of 224


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """A data set and how its images become batches.

    Attributes:
      name: a TFDS name (`digits` is embedded), `folder` for <data_dir>/<split>/<class>/* images, `manifest` for a CSV
        or JSONL list of images, `synthetic`, or several joined by `+`, see `vit_jax.data.opening`.
      data_dir: where it lies; by default TFDS's own place ($TFDS_DATA_DIR or ~/tensorflow_datasets).
      train_split: split expression to train on, for example `train[:90%]`.
      subset: part of `train_split` to train on: `10%`, `9M` (or `9000000`) examples or `5 per class`; smaller ones lie
        within larger ones. Other splits stay whole.
      subset_seed: another one gives another subset.
      image_key: feature of a TFDS record that holds the image.
      label_key: feature of a TFDS record that holds the label or the list of labels; None where a label operation of
        the pre-processing computes it.
      union_labels: lets the parts of a mixture have different classes; those of the same name are one.
      image_size: (height, width) the model sees; one number means a square.
      channels: of the images: 3, or 1 for grayscale.
      train_preprocess: operations on each training image, see `vit_jax.data.ops`.
      eval_preprocess: operations on each image that is evaluated or predicted.
      prefetch: batches kept ready on the host.
      threads: that decode and resize; by default as many as this process has cores.
      on_error: `skip` counts and names images that cannot be used, goes on without them, and gives up when they are
        more than 1 %; `raise` stops at the first.
    """

    name: str = "digits"
    data_dir: str | None = None
    train_split: str = "train"
    subset: str | None = None
    subset_seed: int = 0
    image_key: str = "image"
    label_key: str | None = "label"
    union_labels: bool = False
    image_size: tuple[int, ...] = (224, 224)
    channels: int = 3
    train_preprocess: str = "decode|inception_crop|flip"
    eval_preprocess: str = "decode|resize_small|central_crop"
    prefetch: int = 2
    threads: int | None = None
    on_error: str = "skip"

    def __post_init__(self) -> None:
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

    @property
    def height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        return (self.image_size[0], self.image_size[-1])
