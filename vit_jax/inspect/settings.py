"""What `config.inspect` may say."""

import dataclasses

from vit_jax.durations import Duration
from vit_jax.errors import BadSetting, did_you_mean
from vit_jax.inspect.choices import KINDS


@dataclasses.dataclass(frozen=True)
class InspectSettings:
    """Pictures of what a run has learned so far, as `vit_jax inspect` draws them, in `<workdir>/inspect/<step>`.

    Attributes:
      every: how often, besides at the end of the run; empty for never.
      images: so many are taken of the evaluation split, or of the training split where there is none, evenly spread.
      only: some of `filters`, `positions`, `distance`, `rollout`, `heads`; empty for all that the model has.
    """

    every: str = ""
    images: int = 128
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.every:
            Duration.parse(self.every, "every")
        if self.images < 1:
            raise BadSetting("images", self.images, "must be at least 1")
        for kind in self.only:
            if kind not in KINDS:
                raise BadSetting("only", kind, f"no such pictures; {did_you_mean(kind, KINDS)}")
