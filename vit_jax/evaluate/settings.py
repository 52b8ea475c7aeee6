"""What `config.evaluate` may say."""

import dataclasses

from vit_jax.durations import Duration
from vit_jax.errors import BadSetting


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
    """Exact evaluation during training.

    Attributes:
      split: split expression; empty for none.
      every: how often, besides at the end of the run.
      batch_size: global; 0 takes the training batch.
    """

    split: str = "test"
    every: str = "10%"
    batch_size: int = 0

    def __post_init__(self) -> None:
        Duration.parse(self.every, "every")
        if self.batch_size < 0:
            raise BadSetting("batch_size", self.batch_size, "must be positive, or 0 for the training batch")
