"""Durations of a run in optimizer steps."""

from vit_jax.durations import Duration
from vit_jax.train.settings import RunSettings


def in_steps(settings: RunSettings, text: str, field: str, examples: int, total: int | None) -> int:
    """A duration in optimizer steps: at least one, unless it says none.

    Args:
      settings: of the run; its batch size counts.
      text: the duration.
      field: where it stands, for errors.
      examples: of the training split.
      total: steps of the run; None while that is what is asked.

    Raises:
      BadSetting: it is none, or a percentage of what is not known.
    """
    parsed = Duration.parse(text, field)
    batch = settings.train.batch_size
    found = parsed.steps(batch_size=batch, examples_per_epoch=examples, total_steps=total, field=field)
    return max(found, 1) if parsed.amount else 0
