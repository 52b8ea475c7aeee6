"""The steps of several runs as one program: runs that differ in numbers alone, vectorised over a leading runs axis."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax import parallel
from vit_jax.settings import to_dict
from vit_jax.train.mixing import mixed
from vit_jax.train.objectives import Objective, masked_patches, supervised
from vit_jax.train.optimizer import make_optimizer
from vit_jax.train.preflight import Plan
from vit_jax.train.settings import RunSettings, ScheduleSettings
from vit_jax.train.state import INIT_STREAM, State, init_state, state_around, stream_key
from vit_jax.train.step import Batch, Metrics, step_function


def together_key(settings: RunSettings) -> str:
    """The same text for runs that can be trained as one program.

    Those differ at most in seed, the learning rate and its schedule, weight decay (0 being something else than a
    number), label smoothing and the weights they start from.
    """
    decays, starts = float(settings.optimizer.weight_decay > 0), settings.init.checkpoint and "some"
    alike = dataclasses.replace(
        settings,
        seed=0,
        init=dataclasses.replace(settings.init, checkpoint=starts),
        train=dataclasses.replace(settings.train, label_smoothing=0.0),
        optimizer=dataclasses.replace(settings.optimizer, weight_decay=decays),
        schedule=ScheduleSettings(),
    )
    return json.dumps(to_dict(alike), sort_keys=True)


class Vectorised:
    """Several runs as one program.

    Every array of the state, and every metric, has a leading axis of runs, in their order. Numbers equal those of each
    run by itself up to rounding.

    Args:
      plans: of the runs, whose `together_key` is the same.
    """

    def __init__(self, plans: Sequence[Plan]):
        self.plans, self._first = plans, plans[0]
        mesh = self._first.mesh

        def stacked(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            sharding: Any = leaf.sharding
            spread = NamedSharding(mesh, PartitionSpec(None, *sharding.spec))
            return jax.ShapeDtypeStruct((len(plans), *leaf.shape), leaf.dtype, sharding=spread)

        self.abstract: State = jax.tree.map(stacked, self._first.state)
        self._shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
        one = jax.tree.map(lambda leaf: leaf.sharding, self._first.state)
        self._take = jax.jit(lambda states, i: jax.tree.map(lambda x: x[i], states), out_shardings=one)
        settings = [plan.settings for plan in plans]
        self._numbers = {
            "seed": np.array([s.seed for s in settings], np.uint32),
            "weight_decay": np.array([s.optimizer.weight_decay for s in settings], np.float32),
            "label_smoothing": np.array([s.train.label_smoothing for s in settings], np.float32),
        }
        # Runs with one seed see the same batches: those are made once.
        seeds = [s.seed for s in settings]
        self._streams = sorted(set(seeds))
        self._stream_of = np.array([self._streams.index(seed) for seed in seeds])

    def fresh(self) -> State:
        """The states that the runs start from by themselves."""
        plan, ema = self._first, "ema" in self.abstract
        if plan.settings.init.checkpoint:
            return self._around([plan.initial()[0] for plan in self.plans])  # type: ignore[index]  # all have weights

        def one(seed: jax.Array) -> State:
            return init_state(plan.model, plan.optimizer, stream_key(seed, INIT_STREAM), ema)

        return jax.jit(jax.vmap(one), out_shardings=self._shardings)(self._numbers["seed"])

    def _around(self, params: Sequence[Any]) -> State:
        plan, ema = self._first, "ema" in self.abstract
        whole = jax.tree.map(lambda *arrays: np.stack(arrays), *params)
        placed = parallel.on_mesh(whole, self._shardings["params"])
        make = jax.vmap(lambda p: state_around(p, plan.optimizer, ema))
        return jax.jit(make, out_shardings=self._shardings)(placed)

    def stack(self, states: Sequence[State]) -> State:
        """The states of the runs as one."""
        join = jax.jit(lambda *s: jax.tree.map(lambda *x: jnp.stack(x), *s), out_shardings=self._shardings)
        return join(*states)

    def take(self, states: State, run: int) -> State:
        """The state of one run, as its own training has it."""
        return self._take(states, run)

    def batches(self, first: int) -> Iterator[tuple[Batch, ...]]:
        """From the step after `first` on, one batch for each seed."""
        plan = self._first
        size, total = plan.settings.train.batch_size, plan.steps.total
        rows = parallel.host_rows(plan.mesh, size)
        feeds = [
            parallel.feed(plan.mesh, size, rows, plan.train_data.train_batches(seed, size, rows, first, total))
            for seed in self._streams
        ]
        return zip(*feeds, strict=True)

    def compile(self, batches: tuple[Batch, ...]) -> Callable[..., tuple[State, Metrics]]:
        """The compiled step, (states, batches, numbers) -> (states, metrics); the old states are donated.

        Args:
          batches: some, for their shapes.
        """
        replicated = parallel.replicated(self._first.mesh)
        rows = parallel.batch_sharding(self._first.mesh)
        step = jax.jit(
            self._step,
            in_shardings=(self._shardings, rows, replicated),
            out_shardings=(self._shardings, replicated),
            donate_argnums=0,
            compiler_options=self._first.settings.compiler.resolved(),
        )
        return step.lower(self.abstract, batches, self._numbers).compile()

    def run(self, compiled: Callable[..., Any], states: State, batches: tuple[Batch, ...]) -> tuple[State, Metrics]:
        """One step of all runs."""
        return compiled(states, batches, self._numbers)

    def _step(self, states: State, batches: tuple[Batch, ...], numbers: dict[str, jax.Array]) -> Any:
        rates = jnp.stack([jnp.asarray(plan.schedule(states["step"][0]), jnp.float32) for plan in self.plans])
        if len(batches) == 1:
            return jax.vmap(self._one, in_axes=(0, None, 0, 0))(states, batches[0], rates, numbers)
        own = [batches[stream] for stream in self._stream_of]
        batch = jax.tree.map(lambda *parts: jnp.stack(parts), *own)
        return jax.vmap(self._one)(states, batch, rates, numbers)

    def _one(self, state: State, batch: Batch, rate: jax.Array, numbers: dict[str, jax.Array]) -> Any:
        """The step of one run, whose numbers are traced."""
        plan = self._first
        settings, decay = plan.settings, numbers["weight_decay"] if plan.settings.optimizer.weight_decay else None
        step = step_function(
            self._objective(numbers["label_smoothing"]),
            make_optimizer(settings.optimizer, list(plan.model.shapes), decay),
            lambda _: rate,
            plan.mesh,
            plan.multipliers,
            seed=numbers["seed"],
            micro_batches=settings.train.micro_batches,
            ema_decay=settings.train.ema_decay,
        )
        return step(state, batch)

    def _objective(self, smoothing: jax.Array) -> Objective:
        plan, train = self._first, self._first.settings.train
        if train.objective == "masked_patches":
            return masked_patches(plan.model, plan.settings.masked)
        return mixed(supervised(plan.model, train.loss, smoothing), train, plan.model.classes)
