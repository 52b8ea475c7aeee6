"""The optimizer as a chain of named optax transformations, so that its state is addressed by name."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from vit_jax.models import STACKED
from vit_jax.rules import assign
from vit_jax.train.multipliers import Multipliers, scaled
from vit_jax.train.settings import OptimizerSettings
from vit_jax.trees import like, named_leaves


def make_optimizer(
    settings: OptimizerSettings, names: list[str], weight_decay: float | jax.Array | None = None
) -> optax.GradientTransformationExtraArgs:
    """Gradient -> update before the learning rate, see `OptimizerSettings`.

    With `sam` the update takes the argument `grad_fn`, (params, 0) -> gradient.

    Args:
      settings: which optimizer.
      names: of all parameters, for the decay rules.
      weight_decay: in place of that of the settings, which must not be 0 then; it may be traced.

    Raises:
      UserError: a decay rule is wrong, or no rule matches some parameter.
    """
    chain = []
    if settings.clip_norm:
        chain.append(("clip", optax.clip_by_global_norm(settings.clip_norm)))
    chain += _preconditioner(settings)
    multipliers = assign(names, settings.weight_decay_rules, "config.optimizer.weight_decay_rules")
    decay = settings.weight_decay if weight_decay is None else weight_decay
    for value in sorted(set(multipliers.values()) - {0.0}):
        if settings.weight_decay:
            chain.append((f"decay_{value:g}", _decay(decay * value, multipliers, value)))
    if settings.name == "lamb":
        chain.append(("trust", _by_layer(optax.scale_by_trust_ratio())))
    optimizer = optax.named_chain(*chain)
    if not settings.sam:
        return optax.with_extra_args_support(optimizer)
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(settings.sam))
    return optax.contrib.sam(optimizer, ascent, opaque_mode=True)


def _preconditioner(settings: OptimizerSettings) -> list[tuple[str, optax.GradientTransformation]]:
    """The part of the chain that gives an optimizer its name."""
    dtype = jnp.dtype(settings.mu_dtype)
    match settings.name:
        case "sgd":
            return [("momentum", optax.trace(settings.momentum, accumulator_dtype=dtype))]
        case "lion":
            return [("lion", optax.scale_by_lion(settings.beta1, settings.beta2, mu_dtype=dtype))]
        case "adafactor":
            return [("factored", _factored(settings)), ("momentum", optax.ema(settings.beta1, False, dtype))]
        case "muon":
            return [("muon", _muon(settings))]
        case _:
            return [("adam", optax.scale_by_adam(settings.beta1, settings.beta2, settings.eps, mu_dtype=dtype))]


def _factored(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Second moments by row and column of each kernel; whole for what is no kernel, whose layer axis is no row."""

    def labels(params: optax.Params) -> optax.Params:
        kinds = {name: "kernels" if name.endswith("/kernel") else "others" for name in named_leaves(params)}
        return like(params, kinds)

    def decay(step: jax.Array, power: float) -> jax.Array:
        return jnp.minimum(1.0 - (step + 1.0) ** -power, settings.beta2)

    def rms(factored: bool) -> optax.GradientTransformation:
        return optax.scale_by_factored_rms(factored, min_dim_size_to_factor=32, decay_rate_fn=decay)

    return optax.partition({"kernels": rms(True), "others": rms(False)}, labels)


def _by_layer(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation without state, applied to each layer of a stacked parameter by itself."""

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params) -> tuple[optax.Updates, Any]:
        def one(u: jax.Array, p: jax.Array) -> jax.Array:
            return transformation.update(u, state, p)[0]

        parameters = named_leaves(params)
        new = {
            name: (jax.vmap(one) if STACKED.fullmatch(name) else one)(leaf, parameters[name])
            for name, leaf in named_leaves(updates).items()
        }
        return like(updates, new), state

    return optax.GradientTransformation(transformation.init, update)


def _muon(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Muon for kernels of hidden layers, Adam for the rest, as its author advises."""

    def axes(params: optax.Params) -> optax.Params:
        return like(params, {name: _matrix(name, leaf.ndim) for name, leaf in named_leaves(params).items()})

    return optax.contrib.muon(
        learning_rate=-1.0,  # optax's learning rates descend; ours comes later
        beta=settings.momentum,
        mu_dtype=jnp.dtype(settings.mu_dtype),
        adam_b1=settings.beta1,
        adam_b2=settings.beta2,
        muon_weight_dimension_numbers=axes,
        consistent_rms=0.2,  # updates of about the size of Adam's, so that one learning rate suits both
    )


def _matrix(name: str, ndim: int) -> optax.contrib.MuonDimensionNumbers | None:
    """Which axes of a kernel are inputs and which outputs (a layer axis is neither); None for what Adam updates."""
    if not name.endswith("/kernel") or name.startswith("head/"):
        return None
    first = 1 if STACKED.fullmatch(name) else 0
    outputs = 2 if name.rpartition("/")[0].endswith(("query", "key", "value")) else 1
    return optax.contrib.MuonDimensionNumbers(tuple(range(first, ndim - outputs)), tuple(range(ndim - outputs, ndim)))


def _decay(weight: float | jax.Array, multipliers: dict[str, float], value: float) -> optax.GradientTransformation:
    def mask(params: optax.Params) -> optax.Params:
        return like(params, {name: multipliers[name] == value for name in named_leaves(params)})

    return optax.add_decayed_weights(weight, mask)


def apply_update(
    params: optax.Params, update: optax.Updates, learning_rate: jax.Array, multipliers: Multipliers
) -> optax.Params:
    """params - learning_rate * multiplier * update."""
    return jax.tree.map(lambda p, u: p - u.astype(p.dtype), params, scaled(update, learning_rate, multipliers))
