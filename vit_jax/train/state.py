"""The training state: a nested dict of arrays with documented names.

`step` int32; `params/...`; `opt/<transformation>/...`; with an average also `ema/...` (shaped like `params`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from vit_jax import parallel
from vit_jax.models import Model, Params

State = dict[str, Any]

# Independent streams of random keys below the run's seed.
INIT_STREAM, DROPOUT_STREAM = 0, 1


def stream_key(seed: int | jax.Array, stream: int) -> jax.Array:
    """The key of one purpose."""
    return jax.random.fold_in(jax.random.key(seed), stream)


def init_state(model: Model, optimizer: optax.GradientTransformation, key: jax.Array, ema: bool) -> State:
    """A fresh state, as a pure function."""
    return state_around(model.init(key), optimizer, ema)


def state_around(params: Params, optimizer: optax.GradientTransformation, ema: bool) -> State:
    """The state at step 0 of these parameters, as a pure function."""
    state = {"step": jnp.zeros((), jnp.int32), "params": params, "opt": optimizer.init(params)}
    return {**state, "ema": params} if ema else state


def state_shapes(model: Model, optimizer: optax.GradientTransformation, ema: bool) -> State:
    """The state's shapes and dtypes, without computing anything."""
    return jax.eval_shape(lambda key: init_state(model, optimizer, key, ema), jax.random.key(0))


def laid_out(shapes: State, model: Model, mesh: Mesh | AbstractMesh) -> State:
    """The same shapes, with their shardings on a mesh."""
    shardings = parallel.state_shardings(shapes, model.shapes, model.logical_axes, mesh)
    return jax.tree.map(
        lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes, shardings
    )


def abstract_state(
    model: Model, optimizer: optax.GradientTransformation, mesh: Mesh | AbstractMesh, ema: bool
) -> State:
    """The state's shapes, dtypes and shardings, without computing anything."""
    return laid_out(state_shapes(model, optimizer, ema), model, mesh)


def create_state(model: Model, optimizer: optax.GradientTransformation, abstract: State, seed: int) -> State:
    """Initialises on the mesh: each device computes its own part only."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    make = jax.jit(lambda key: init_state(model, optimizer, key, "ema" in abstract), out_shardings=shardings)
    return make(stream_key(seed, INIT_STREAM))


def state_from(params: Params, optimizer: optax.GradientTransformation, abstract: State) -> State:
    """The state at step 0 with given parameters.

    Args:
      params: on the host, the same on every process; each device gets its own part only.
      optimizer: of the run.
      abstract: from `abstract_state`.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    placed = parallel.on_mesh(params, shardings["params"])
    make = jax.jit(lambda params: state_around(params, optimizer, "ema" in abstract), out_shardings=shardings)
    return make(placed)
