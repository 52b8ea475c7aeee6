"""Training states on disk, by Orbax: asynchronous, atomic, described, restorable onto any mesh."""

import concurrent.futures
import contextlib
import functools
import logging
import shutil
import time
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, EveryNSteps, LatestN

from vit_jax import parallel
from vit_jax.checkpoint.metadata import Metadata, check_same_shapes, check_schema
from vit_jax.errors import Unsaved, UserError, one_line, reason
from vit_jax.trees import like, named_leaves, nested

ITEMS = ("params", "opt", "ema")
_SHARED_FROM = 2**20  # bytes for each of the devices that write an array together
# Orbax logs a failure of its threads, with tracebacks, several times; we raise it, once.
_NOTICES = (
    "Sharding info not provided when restoring",
    "_SignalingThread.run() raised",
    "Handler Commit operations or the Commit callback",
    "Save Finalize thread",
    "one or more items may not be finalized",
    "Reached preemption sync point",
    "Type handler registry type",
)


class TrainingCheckpoints:
    """The saves of one run: `<directory>/<step>/{params,opt,ema,metadata}`.

    Arrays are stored under their documented names as plain nested dicts, nothing of Flax or optax; metadata is JSON.
    A save becomes visible at once when it is complete; an interrupted one is never seen. As a context it closes itself,
    but does not wait for other processes when this one failed alone. If something else could not be written either,
    both failures are said in one `Unsaved`.

    Args:
      directory: of the saves.
      keep_last: the newest saves that are kept.
      keep_every: saves at least this many steps apart are also kept for good; 0 for none.
    """

    def __init__(self, directory: Path, keep_last: int = 2, keep_every: int = 0):
        self.directory = Path(directory).absolute()
        policies: list[Any] = [LatestN(keep_last)]
        if keep_every:
            policies.append(EveryNSteps(keep_every, exact_interval=False))
        logging.getLogger("absl").addFilter(_without_orbax_notices)
        logging.getLogger("asyncio").addFilter(_without_other_writes)
        _write_small_arrays_whole()
        self._options = ocp.CheckpointManagerOptions(
            create=True,
            cleanup_tmp_directories=True,
            preservation_policy=AnyPreservationPolicy(policies),
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(barrier_sync_fn=parallel.shared_fate()),
        )
        self._manager = self._managed()
        self._waiter = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._saving: tuple[int, concurrent.futures.Future] | None = None

    def _managed(self) -> ocp.CheckpointManager:
        # Compression takes 8 % off float32 weights, and half off the rate of reading them (docs/performance.md).
        handlers: dict[str, Any] = {item: ocp.PyTreeCheckpointHandler(use_compression=False) for item in ITEMS}
        handlers["metadata"] = ocp.JsonCheckpointHandler()
        return ocp.CheckpointManager(self.directory, item_handlers=handlers, options=self._options)

    def steps(self) -> list[int]:
        """Steps of the complete saves, ascending."""
        under_way = self._saving[0] if self._saving else None
        return sorted(step for step in self._manager.all_steps() if step != under_way)

    def latest(self) -> int | None:
        """The newest complete save."""
        return max(self.steps(), default=None)

    def save(self, state: dict[str, Any], metadata: Metadata) -> None:
        """Starts saving `state` as step `metadata.step`; returns once the arrays are copied off the devices.

        Waits for the save before.

        Raises:
          Unsaved: that one failed, or this one could not be begun. Earlier saves are untouched.
        """
        self.wait()
        step = metadata.step
        if step in self._manager.all_steps():
            return
        kept = {item: jax.tree.map(_apart, named_leaves(state[item])) for item in ITEMS if item in state}
        items = {item: ocp.args.PyTreeSave(nested(leaves)) for item, leaves in kept.items()}
        description = ocp.args.JsonSave(metadata.to_json())
        try:
            self._manager.save(step, args=ocp.args.Composite(metadata=description, **items))
        except OSError as error:
            raise self._unsaved(step, error) from error
        self._saving = step, self._waiter.submit(self._manager.wait_until_finished)

    def check(self) -> None:
        """Raises Unsaved if the save under way has failed; does not wait for it."""
        if self._saving and self._saving[1].done():
            self.wait()

    def wait(self) -> None:
        """Blocks until the save under way is complete.

        Raises:
          Unsaved: it failed. Earlier saves are untouched.
        """
        if not self._saving:
            return
        (step, outcome), self._saving = self._saving, None
        error = outcome.exception()
        if error is not None:
            raise self._unsaved(step, error) from error

    def _unsaved(self, step: int, error: BaseException) -> Unsaved:
        """Clears up after a failed save."""
        with contextlib.suppress(Exception):
            self._manager.wait_until_finished()  # raises in each thread once
        if parallel.is_main():
            _remove_unfinished(self.directory, step)
        if parallel.process_count() > 1:
            self._manager.reload()  # what was going to be deleted after this save is still there
        else:  # Orbax may keep the error, and raise it again when something else is saved or restored
            with contextlib.suppress(Exception):
                self._manager.close()
            self._manager = self._managed()
        good = self.latest()
        kept = "there is no earlier one" if good is None else f"step {good} is the newest good one, untouched"
        return Unsaved(f"checkpoint {self.directory / str(step)} could not be written: {reason(error)}; {kept}")

    def description(self, step: int) -> dict[str, Any]:
        """What save `step` says about itself.

        Raises:
          UserError: it cannot be read or has another schema.
        """
        directory = self.directory / str(step)
        try:
            found = _read_json(directory)
        except Exception as error:  # Orbax and TensorStore raise many kinds, none of them ours
            raise self._unreadable(step, error) from error
        check_schema(found, f"checkpoint {directory}")
        return found

    def restore(self, abstract: dict[str, Any], metadata: Metadata, step: int) -> dict[str, Any]:
        """Loads save `step` onto the shapes, dtypes and shardings of `abstract`.

        Args:
          abstract: the state as `jax.ShapeDtypeStruct`s with shardings.
          metadata: of the run that wants it; its model must have the saved shapes.
          step: a member of `steps()`.

        Raises:
          UserError: the save belongs to another model or optimizer, or is damaged.
        """
        directory = self.directory / str(step)
        where = f"checkpoint {directory}"
        items = {item: nested(named_leaves(abstract[item])) for item in ITEMS if item in abstract}
        found = self.description(step)
        try:
            saved = {item: _saved_names(directory / item) for item in items}
        except Exception as error:  # as above
            raise self._unreadable(step, error) from error
        check_same_shapes(found["model"]["shapes"], metadata.model.shapes, where)
        for item, tree in items.items():
            _check_same_names(item, saved[item], set(named_leaves(tree)), where)
        targets = {item: _restore_onto(tree) for item, tree in items.items()}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**targets))
            state = {item: like(abstract[item], named_leaves(restored[item])) for item in items}
        except Exception as error:  # as above
            raise self._unreadable(step, error) from error
        state["step"] = jax.device_put(jax.numpy.int32(step), abstract["step"].sharding)
        return state

    def _unreadable(self, step: int, error: Exception) -> UserError:
        others = [s for s in self.steps() if s < step]
        fix = f"if it is damaged, move it away to go on from step {others[-1]}" if others else "there is no earlier one"
        return UserError(f"checkpoint {self.directory / str(step)} cannot be read ({one_line(error)}); {fix}")

    def close(self) -> None:
        """Waits, then gives back threads and files.

        Raises:
          Unsaved: the save under way failed.
        """
        try:
            self.wait()
        finally:
            self._manager.close()
            self._waiter.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        elif parallel.process_count() == 1 or not getattr(error, "alone", True):
            try:
                self.close()
            except Unsaved as another:  # the first error counts; of a full disk it is chance what is first
                if isinstance(error, Unsaved):
                    raise Unsaved(f"{error}; {another}") from error


def read_metadata(directory: Path) -> dict[str, Any]:
    """The description of the save in `directory`.

    Raises:
      UserError: it is missing or unreadable.
    """
    try:
        return _read_json(Path(directory).absolute())
    except Exception as error:  # as above
        raise UserError(f"checkpoint {directory} cannot be read ({one_line(error)})") from error


def read_params(directory: Path, item: str, abstract: Any) -> Any:
    """One item (`params` or `ema`) of a save as NumPy arrays in the structure of `abstract`; no device is touched.

    Raises:
      UserError: it is damaged or incomplete.
    """
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            target = nested(named_leaves(abstract))
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
            arguments = ocp.args.PyTreeRestore(item=target, restore_args=as_numpy)
            return like(abstract, named_leaves(reader.restore(Path(directory).absolute() / item, arguments)))
    except Exception as error:  # as above
        raise UserError(f"checkpoint {directory} cannot be read ({one_line(error)})") from error


def _apart(leaf: Any) -> Any:
    """On CPUs Orbax writes from the arrays' own memory, and the step that wants it (donation) would wait: a copy."""
    devices: set[Any] = leaf.sharding.device_set if isinstance(leaf, jax.Array) else set()
    on_cpu = any(device.platform == "cpu" for device in devices)
    return jax.device_put(leaf, leaf.sharding, may_alias=False) if on_cpu else leaf


def _restore_onto(target: dict[str, Any]) -> ocp.args.PyTreeRestore:
    """Arguments that bring arrays onto the shapes, dtypes and shardings of `target`."""
    return ocp.args.PyTreeRestore(item=target, restore_args=ocp.checkpoint_utils.construct_restore_args(target))


def _read_json(directory: Path) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(directory / "metadata")


def _saved_names(directory: Path) -> set[str]:
    """The names of the arrays of an item; none for an average that was not kept."""
    if directory.name == "ema" and not directory.is_dir():
        return set()
    return set(named_leaves(ocp.StandardCheckpointHandler().metadata(directory).tree))


def _check_same_names(item: str, found: set[str], wanted: set[str], where: str) -> None:
    """Raises UserError when an intact save holds other arrays than the run needs, as after a change of optimizer."""
    lacks, surplus = (sorted(f"{item}/{name}" for name in names) for names in (wanted - found, found - wanted))
    if lacks or surplus:
        parts = [f"{word} {names[0]}" for word, names in (("lacks", lacks), ("has", surplus)) if names]
        fix = "set the config back to the one it was saved with, or start in another workdir"
        raise UserError(f"{where} does not fit this run's optimizer and average: it {' and '.join(parts)}; {fix}")


def _remove_unfinished(directory: Path, step: int) -> None:
    """What a failed save left. Orbax raises the first of several writes that fail; the others may still be at it."""
    quiet = 0
    for _ in range(100):
        left = list(directory.glob(f"{step}.orbax-checkpoint-tmp*"))
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        quiet = 0 if left else quiet + 1
        if quiet == 2:
            return
        time.sleep(0.05)


@functools.cache  # once for the process
def _write_small_arrays_whole() -> None:
    """Devices that hold the same array share the work of writing it; for small arrays cutting it up is the work."""
    handler = ocp.type_handlers.ArrayHandler(
        array_metadata_store=ocp.type_handlers.get_type_handler(jax.Array)._array_metadata_store,
        min_slice_bytes_for_replica_parallel=_SHARED_FROM,
    )
    ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)


def _without_orbax_notices(record: logging.LogRecord) -> bool:
    return not any(notice in record.getMessage() for notice in _NOTICES)


def _without_other_writes(record: logging.LogRecord) -> bool:
    """Orbax raises the first of several writes that fail; asyncio would log the others, when they are collected."""
    message = record.getMessage()  # of a task, a future or a future of several
    return not ("exception was never retrieved" in message and "orbax" in message)
