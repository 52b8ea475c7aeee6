"""The share of the learning rate that each parameter gets: by rules, and by depth."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.models import Model, Params
from vit_jax.rules import assign
from vit_jax.train.settings import OptimizerSettings
from vit_jax.trees import like, named_leaves

# {parameter name: a number, or one for each entry of its leading layer axis}.
Multipliers = dict[str, np.ndarray]


def learning_rate_multipliers(settings: OptimizerSettings, model: Model) -> Multipliers:
    """Multipliers of the learning rate, float32 scalars or arrays of shape (layers,).

    Raises:
      UserError: a rule is wrong, or no rule matches some parameter.
    """
    rules = assign(list(model.shapes), settings.learning_rate_rules, "config.optimizer.learning_rate_rules")
    depths, top = _depths(model)
    return {
        name: np.asarray(value * settings.layer_decay ** (top - depths[name]), np.float32)
        for name, value in rules.items()
    }


def _depths(model: Model) -> tuple[dict[str, np.ndarray], int]:
    """(the layer each parameter belongs to, 0 for the stem; the number of the highest)."""
    resolved = model.settings.resolved
    if resolved.encoder is None:
        assert resolved.trunk is not None
        top = len(resolved.trunk.units) + 1
        of_trunk = {name: _stage(name) for name in model.shapes if name.startswith("trunk/")}
        return {name: np.asarray(of_trunk.get(name, top)) for name in model.shapes}, top
    top = resolved.encoder.depth + 1
    depths = {}
    for name in model.shapes:
        if name.startswith(("blocks/", "positions/")):
            depths[name] = np.arange(1, top)
        else:
            above = re.match(r"(norm|map_head|pre_logits|head)/", name)
            depths[name] = np.asarray(top if above else 0)
    return depths, top


def _stage(name: str) -> int:
    found = re.match(r"trunk/block(\d+)/", name)
    return int(found[1]) if found else 0


def scaled(update: Params, learning_rate: jax.Array, multipliers: Multipliers) -> Params:
    """learning_rate * multiplier * update, for each parameter."""

    def one(name: str, leaf: jax.Array) -> jax.Array:
        factor = multipliers[name]
        return learning_rate * jnp.asarray(factor).reshape(factor.shape + (1,) * (leaf.ndim - factor.ndim)) * leaf

    return like(update, {name: one(name, leaf) for name, leaf in named_leaves(update).items()})


def frozen(multipliers: Multipliers) -> set[str]:
    """Parameters that never change."""
    return {name for name, value in multipliers.items() if not value.any()}


def stop_frozen(params: Params, names: set[str]) -> Params:
    """The same values; no gradient is computed for the parameters of these names."""
    named = named_leaves(params)
    return like(params, {name: jax.lax.stop_gradient(p) if name in names else p for name, p in named.items()})
