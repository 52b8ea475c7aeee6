"""Durations of a run written the way people think of them: steps, epochs, examples or percent."""

import dataclasses
import math
import re
from typing import Any

from vit_jax.errors import BadSetting

_FORM = re.compile(r"^\s*([0-9][0-9_]*\.?[0-9]*(?:e[0-9]+)?)\s*([kKmM]?)\s*(steps?|epochs?|examples?|%|percent|)\s*$")
_SCALE = {"": 1, "k": 1_000, "m": 1_000_000}
ACCEPTED = "write it as '5000 steps', '90 epochs', '1.5M examples', '10%' or '10k steps, at most 20%'"
_AT_MOST = re.compile(r"\s*,\s*at\s+most\s+")


@dataclasses.dataclass(frozen=True)
class Duration:
    """An amount of training.

    Attributes:
      amount: how many.
      unit: `steps`, `epochs`, `examples` or `percent` (of the whole run).
      at_most: another amount that counts where it is shorter, so that a run may be shortened by its length alone.
    """

    amount: float
    unit: str
    at_most: "Duration | None" = None

    @staticmethod
    def parse(text: str, field: str) -> "Duration":
        """Reads `'90 epochs'` or `'10k steps, at most 20%'`; a bare number means steps.

        Raises:
          BadSetting: names `field`, the text and the accepted forms.
        """
        parts = _AT_MOST.split(text)
        if len(parts) == 2:
            return dataclasses.replace(Duration.parse(parts[0], field), at_most=Duration.parse(parts[1], field))
        match = _FORM.match(text)
        if not match:
            raise BadSetting(field, text, ACCEPTED)
        number, scale, unit = match.groups()
        units = {"": "steps", "%": "percent", "percent": "percent"}
        unit = units.get(unit, unit.rstrip("s") + "s")
        amount = float(number.replace("_", "")) * _SCALE[scale.lower()]
        if math.isinf(amount):
            raise BadSetting(field, text, "is too large")
        return Duration(amount, unit)

    def steps(self, *, batch_size: int, examples_per_epoch: int | None, total_steps: int | None, field: str) -> int:
        """This duration in optimizer steps, rounded to the nearest whole step; the shorter one of two.

        Args:
          batch_size: global batch, examples per step.
          examples_per_epoch: size of the training split; needed for epochs.
          total_steps: length of the run; needed for percent.
          field: name used in errors.

        Raises:
          BadSetting: the unit needs something that is not known.
        """
        if self.at_most is not None:
            both = (dataclasses.replace(self, at_most=None), self.at_most)
            known: dict[str, Any] = {"batch_size": batch_size, "examples_per_epoch": examples_per_epoch}
            return min(part.steps(**known, total_steps=total_steps, field=field) for part in both)
        if self.unit == "steps":
            return round(self.amount)
        if self.unit == "examples":
            return round(self.amount / batch_size)
        if self.unit == "epochs":
            if examples_per_epoch is None:
                raise BadSetting(field, f"{self.amount:g} epochs", "this data set has no epochs; use steps or examples")
            return round(self.amount * examples_per_epoch / batch_size)
        if total_steps is None:
            raise BadSetting(field, f"{self.amount:g}%", "the length of the run itself cannot be a percentage")
        return math.floor(self.amount / 100 * total_steps + 0.5)
