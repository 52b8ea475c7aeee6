"""What `config.checkpoint` may say."""

import dataclasses

from vit_jax.durations import Duration
from vit_jax.errors import BadSetting

# What may become of a classifier, and how position embeddings are resized, when weights are adapted.
HEADS = ("keep", "reset", "resize")
METHODS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class CheckpointSettings:
    """When the training state is saved and which saves are kept.

    Attributes:
      every: how often, besides at the end of the run and when it is stopped.
      keep_last: the newest saves to keep.
      keep_every: also keep, for good, about one save in each interval of this length; `0 steps` keeps none.
    """

    every: str = "10%"
    keep_last: int = 2
    keep_every: str = "0 steps"

    def __post_init__(self) -> None:
        Duration.parse(self.every, "every")
        Duration.parse(self.keep_every, "keep_every")
        if self.keep_last < 1:
            raise BadSetting("keep_last", self.keep_last, "must be at least 1")
