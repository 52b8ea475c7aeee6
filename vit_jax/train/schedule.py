"""Learning-rate schedules: a linear warm-up joined to a decay that is measured after it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from vit_jax.errors import BadSetting
from vit_jax.train.settings import ScheduleSettings


def make_schedule(
    settings: ScheduleSettings, total: int, warmup: int, timescale: int, cooldown: int, boundaries: Sequence[int] = ()
) -> optax.Schedule:
    """step (counted from 0) -> learning rate.

    Args:
      settings: the curve.
      total: steps of the run.
      warmup: steps; the rate at step 0 is 0 and at step `warmup` the full one.
      timescale: steps, of `rsqrt`.
      cooldown: steps at the end.
      boundaries: steps, ascending, of `staircase`: from each on, the rate is a tenth of the one before.

    Raises:
      BadSetting: warm-up and cool-down do not fit into the run.
    """
    if warmup + cooldown > total:
        fix = f"{warmup} steps, with {cooldown} of cool-down, do not fit into a run of {total}; shorten it"
        raise BadSetting("config.schedule.warmup", settings.warmup, fix)
    if settings.name == "staircase" and not all(a < b for a, b in zip([warmup, *boundaries], boundaries, strict=False)):
        fix = f"must be ascending and after the warm-up of {warmup} steps; they are steps {list(boundaries)}"
        raise BadSetting("config.schedule.boundaries", settings.boundaries, fix)
    base, decay_steps = settings.learning_rate, max(total - warmup, 1)
    decay = {
        "constant": optax.constant_schedule(base),
        "linear": optax.linear_schedule(base, base * settings.end_factor, decay_steps),
        "cosine": optax.cosine_decay_schedule(base, decay_steps, alpha=settings.end_factor),
        "rsqrt": lambda step: base * jax.lax.rsqrt(1.0 + step / max(timescale, 1)),
        "staircase": optax.piecewise_constant_schedule(base, {max(b - warmup, 0): 0.1 for b in boundaries}),
    }[settings.name]
    curve = optax.join_schedules([optax.linear_schedule(0.0, base, warmup), decay], [warmup]) if warmup else decay
    if not cooldown:
        return curve
    return lambda step: curve(step) * jnp.clip((total - step) / cooldown, 0.0, 1.0)
