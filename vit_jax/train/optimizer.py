"""The optimizer as a chain of named optax transformations, so that its state is addressed by name."""

import jax
import jax.numpy as jnp
import optax

from vit_jax.rules import assign
from vit_jax.train.settings import OptimizerSettings
from vit_jax.trees import like, named_leaves


def make_optimizer(settings: OptimizerSettings, names: list[str]) -> optax.GradientTransformation:
    """Gradient -> update before the learning rate, see `OptimizerSettings`.

    Args:
      settings: which optimizer.
      names: of all parameters, for the decay rules.

    Raises:
      UserError: a decay rule is wrong, or no rule matches some parameter.
    """
    chain = []
    if settings.clip_norm:
        chain.append(("clip", optax.clip_by_global_norm(settings.clip_norm)))
    dtype = jnp.dtype(settings.mu_dtype)
    if settings.name == "sgd":
        chain.append(("momentum", optax.trace(settings.momentum, accumulator_dtype=dtype)))
    else:
        chain.append(("adam", optax.scale_by_adam(settings.beta1, settings.beta2, settings.eps, mu_dtype=dtype)))
    multipliers = assign(names, settings.weight_decay_rules, "config.optimizer.weight_decay_rules")
    for value in sorted(set(multipliers.values()) - {0.0}):
        if settings.weight_decay:
            chain.append((f"decay_{value:g}", _decay(settings.weight_decay * value, multipliers, value)))
    return optax.named_chain(*chain)


def _decay(weight: float, multipliers: dict[str, float], value: float) -> optax.GradientTransformation:
    def mask(params: optax.Params) -> optax.Params:
        return like(params, {name: multipliers[name] == value for name in named_leaves(params)})

    return optax.add_decayed_weights(weight, mask)


def apply_update(params: optax.Params, update: optax.Updates, learning_rate: jax.Array) -> optax.Params:
    """params - learning_rate * update."""
    return jax.tree.map(lambda p, u: p - (learning_rate * u).astype(p.dtype), params, update)
