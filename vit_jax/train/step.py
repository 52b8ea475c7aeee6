"""One optimizer step as one compiled program."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.train.multipliers import Multipliers, frozen, stop_frozen
from vit_jax.train.objectives import Objective
from vit_jax.train.optimizer import apply_update
from vit_jax.train.state import DROPOUT_STREAM, State, stream_key

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
StepFunction = Callable[[State, Batch], tuple[State, Metrics]]
Prepare = Callable[[Any], Any]
TrainStep = jax.stages.Wrapped  # a StepFunction to be compiled


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    schedule: optax.Schedule,
    abstract: State,
    mesh: Mesh,
    multipliers: Multipliers,
    *,
    seed: int,
    micro_batches: int = 1,
    ema_decay: float = 0.0,
    prepare: Prepare | None = None,
    options: Mapping[str, str | bool] | None = None,
) -> TrainStep:
    """Compiles (state, batch) -> (state, metrics); the old state is donated.

    Metrics, all float32 scalars on every device: `loss`, the objective's own, `learning_rate`, `gradient_norm` (before
    clipping), `update_norm` (before the learning rate). They describe the state *before* the update.

    Args:
      objective: what is minimised.
      optimizer: from `make_optimizer`.
      schedule: learning rate by step.
      abstract: from `abstract_state`; fixes shardings of inputs and outputs, so that the step compiles once.
      mesh: of the job.
      multipliers: of the learning rate, see `learning_rate_multipliers`.
      seed: of dropout; the key of a step depends on (seed, step, micro-batch) alone.
      micro_batches: parts of the batch whose gradients are averaged.
      ema_decay: of the averaged parameters, if the state has them.
      prepare: what the objective wants to be done to the parameters once a step, before the micro-batches.
      options: of the compiler.
    """
    step = step_function(
        objective,
        optimizer,
        schedule,
        mesh,
        multipliers,
        seed=seed,
        micro_batches=micro_batches,
        ema_decay=ema_decay,
        prepare=prepare,
    )
    state_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(
        step,
        in_shardings=(state_shardings, parallel.batch_sharding(mesh)),
        out_shardings=(state_shardings, parallel.replicated(mesh)),
        donate_argnums=0,
        compiler_options=dict(options or {}),
    )


def step_function(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    schedule: Callable[[jax.Array], jax.Array],
    mesh: Mesh,
    multipliers: Multipliers,
    *,
    seed: int | jax.Array,
    micro_batches: int = 1,
    ema_decay: float = 0.0,
    prepare: Prepare | None = None,
) -> StepFunction:
    """The step as a pure function, not compiled; arguments as for `make_train_step`, of which numbers may be traced."""
    constrain = parallel.constrain_on(mesh)
    unchanging = frozen(multipliers)

    def of_params(params: Any, *arguments: Any) -> tuple[jax.Array, Metrics]:
        return objective(stop_frozen(params, unchanging), *arguments)

    gradient = jax.value_and_grad(of_params, has_aux=True)

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        params = state["params"]
        key = jax.random.fold_in(stream_key(seed, DROPOUT_STREAM), state["step"])

        def at(params: Any) -> tuple[tuple[jax.Array, Metrics], Any]:
            if micro_batches == 1:
                return gradient(params, batch, key, constrain)
            if prepare is None:
                return _accumulate(gradient, params, batch, key, constrain, micro_batches)
            prepared, back = jax.vjp(prepare, params)
            found, grads = _accumulate(gradient, prepared, batch, key, constrain, micro_batches)
            return found, back(grads)[0]

        (loss, extra), grads = at(params)
        # Only sharpness-aware minimisation asks for a second gradient.
        update, opt = optimizer.update(grads, state["opt"], params, grad_fn=lambda p, _: at(p)[1])
        learning_rate = jnp.asarray(schedule(state["step"]), jnp.float32)
        new = {
            "step": state["step"] + 1,
            "params": apply_update(params, update, learning_rate, multipliers),
            "opt": opt,
        }
        if "ema" in state:
            new["ema"] = optax.incremental_update(new["params"], state["ema"], 1.0 - ema_decay)
        norms = {"gradient_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(update)}
        return new, {"loss": loss, **extra, "learning_rate": learning_rate, **norms}

    return step


def _accumulate(
    gradient: Callable[..., Any], params: Any, batch: Batch, key: jax.Array, constrain: Any, parts: int
) -> tuple[tuple[jax.Array, Metrics], Any]:
    """Averages `gradient` over `parts` micro-batches, one after the other, each with its own dropout key."""

    def split(x: jax.Array) -> jax.Array:
        # Micro-batch m takes rows m, m + parts, ...: every device keeps the rows it has.
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:])
        return constrain(jnp.moveaxis(x, 1, 0), ("parts", "batch") + ("pixel",) * (x.ndim - 2))

    def add(total: Any, micro: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        part, part_key = micro
        found = gradient(params, part, part_key, constrain)
        return jax.tree.map(lambda t, f: t + f.astype(t.dtype), total, found), None

    micro = (jax.tree.map(split, batch), jax.random.split(key, parts))
    shapes = jax.eval_shape(lambda b, k: gradient(params, b, k, constrain), *jax.tree.map(lambda x: x[0], micro))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes)
    total, _ = jax.lax.scan(add, zeros, micro)
    return jax.tree.map(lambda t: t / parts, total)
