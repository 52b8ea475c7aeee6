"""What `config.checkpoint` may say."""

import dataclasses

from vit_jax.durations import Duration
from vit_jax.errors import BadSetting

# What may become of a classifier, and how position embeddings are resized, when weights are adapted.
HEADS = ("keep", "reset", "resize")
METHODS = ("bilinear", "bicubic")
ON_ERROR = ("stop", "continue")


@dataclasses.dataclass(frozen=True)
class CheckpointSettings:
    """When the training state is saved and which saves are kept.

    Attributes:
      every: how often, besides at the end of the run and when it is stopped.
      keep_last: the newest saves to keep.
      keep_every: also keep, for good, about one save in each interval of this length; `0 steps` keeps none.
      on_error: when a save, or a line of metrics, cannot be written (the disk is full): `stop` with exit status 4, or
        `continue` and try again at the next one. Earlier saves are kept either way.
    """

    every: str = "10%"
    keep_last: int = 2
    keep_every: str = "0 steps"
    on_error: str = "stop"

    def __post_init__(self) -> None:
        Duration.parse(self.every, "every")
        Duration.parse(self.keep_every, "keep_every")
        if self.keep_last < 1:
            raise BadSetting("keep_last", self.keep_last, "must be at least 1")
        if self.on_error not in ON_ERROR:
            raise BadSetting("on_error", self.on_error, f"must be one of {', '.join(ON_ERROR)}")
