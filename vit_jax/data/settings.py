"""What `config.data` may say."""

import dataclasses

from vit_jax.errors import BadSetting


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """A data set and how its images become batches.

    Attributes:
      name: a TFDS name (`digits` is embedded), `folder` for <data_dir>/<split>/<class>/* images, or `synthetic`.
      data_dir: where it lies; by default TFDS's own place ($TFDS_DATA_DIR or ~/tensorflow_datasets).
      train_split: split expression to train on, for example `train[:90%]`.
      image_size: (height, width) the model sees; one number means a square.
      channels: of the images: 3, or 1 for grayscale.
      train_preprocess: operations on each training image, see `vit_jax.data.ops`.
      eval_preprocess: operations on each image that is evaluated or predicted.
      prefetch: batches kept ready on the host.
    """

    name: str = "digits"
    data_dir: str | None = None
    train_split: str = "train"
    image_size: tuple[int, ...] = (224, 224)
    channels: int = 3
    train_preprocess: str = "decode|inception_crop|flip"
    eval_preprocess: str = "decode|resize_small|central_crop"
    prefetch: int = 2

    def __post_init__(self) -> None:
        if len(self.image_size) not in (1, 2) or any(side < 1 for side in self.image_size):
            raise BadSetting("image_size", self.image_size, "write (height, width) or one number, in pixels")
        if self.channels not in (1, 3):
            raise BadSetting("channels", self.channels, "must be 3 (colour) or 1 (grayscale)")
        if self.prefetch < 1:
            raise BadSetting("prefetch", self.prefetch, "must be at least 1")

    @property
    def height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        return (self.image_size[0], self.image_size[-1])
