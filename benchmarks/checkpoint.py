"""What an asynchronous checkpoint costs the training steps around it, and how fast it is written and read.

    python benchmarks/checkpoint.py --model=L/16 --batch_size=2

The state is that of `vit_jax train`: float32 weights and both moments of Adam. Turns alternate: so many steps without a
save, and the same with a save begun before the first of them; the delay is the difference of their wall times, in
seconds and in steps. The save's call, until the arrays are copied and training goes on, and the time until it is
complete are also told. Beside them stand the limits of the disk in the same run: as many bytes written by plain writes
with fsync, and read again after the system was asked to forget them.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import jax
import numpy as np
import subjects

from vit_jax.checkpoint import Metadata, TrainingCheckpoints
from vit_jax.settings import to_dict
from vit_jax.train import create_state

CHUNK = 64 * 2**20


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="L/16")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=harness.count, default=4, help="of a turn")
    parser.add_argument("--rounds", type=harness.count, default=3)
    parser.add_argument("--folder", help="on the disk to be measured (default: the system's place for temporary files)")
    parser.add_argument("--output", help="JSON file (default: none)")
    return parser.parse_args()


def seconds_of(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def raw_write(path: Path, size: int) -> None:
    block = np.random.default_rng(0).bytes(CHUNK)
    with path.open("wb") as file:
        for _ in range(size // CHUNK):
            file.write(block)
        os.fsync(file.fileno())


def raw_read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        block = bytearray(CHUNK)
        while file.readinto(block):
            pass


def forget(folder: Path) -> None:
    """Asks the system to drop what it holds of these files in memory."""
    for path in folder.rglob("*") if folder.is_dir() else [folder]:
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


class Training:
    """A state that takes steps and can be saved."""

    def __init__(self, flags: argparse.Namespace, folder: Path):
        program = subjects.program_of(flags)
        self.abstract = program.state
        self.state = create_state(program.model, program.optimizer, program.state, 0)
        self.bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self.state) if hasattr(leaf, "nbytes"))
        self._batch = jax.device_put(subjects.random_batch(flags), jax.tree.map(lambda s: s.sharding, program.batch()))
        self._step = program.train_step().lower(self.state, self._batch).compile()
        config = to_dict(subjects.settings_of(flags))
        self._metadata = lambda step: Metadata(program.model, tuple(map(str, range(subjects.CLASSES))), config, step)
        self.checkpoints = TrainingCheckpoints(folder, keep_last=1)
        self._saved = 0

    def steps(self, number: int) -> None:
        for _ in range(number):
            self.state, metrics = self._step(self.state, self._batch)
            jax.block_until_ready(metrics)

    def save(self) -> None:
        self._saved += 1
        self.checkpoints.save(self.state, self._metadata(self._saved))

    def restore(self) -> None:
        jax.block_until_ready(self.checkpoints.restore(self.abstract, self._metadata(self._saved), self._saved))


def measure(flags: argparse.Namespace, place: Path) -> dict[str, Any]:
    training = Training(flags, place / "checkpoints")
    training.steps(2)
    found: dict[str, list[float]] = {}
    for _ in range(flags.rounds):
        turn: dict[str, float] = {}
        turn["without"] = seconds_of(lambda: training.steps(flags.steps))
        began = time.perf_counter()
        turn["call"] = seconds_of(training.save)
        training.steps(flags.steps)
        turn["with"] = time.perf_counter() - began
        training.checkpoints.wait()
        turn["complete"] = time.perf_counter() - began
        turn["alone"] = seconds_of(lambda: (training.save(), training.checkpoints.wait()))
        turn["raw_write"] = seconds_of(lambda: raw_write(place / "raw", training.bytes))
        forget(place)
        turn["restore"] = seconds_of(training.restore)
        turn["raw_read"] = seconds_of(lambda: raw_read(place / "raw"))
        turn["delay"] = turn["with"] - turn["without"]
        turn["delay_in_steps"] = turn["delay"] * flags.steps / turn["without"]
        for name, value in turn.items():
            found.setdefault(name, []).append(value)
        print("  ".join(f"{name} {value:.2f}" for name, value in turn.items()), flush=True)
    training.checkpoints.close()
    return {"bytes": training.bytes, "turns": found}


def main() -> None:
    flags = parse_arguments()
    harness.check_output(flags.output)
    with tempfile.TemporaryDirectory(dir=flags.folder) as place, harness.settings_in_one_line():
        found = measure(flags, Path(place))
    median = {name: statistics.median(values) for name, values in found["turns"].items()}
    size = found["bytes"] / 1e9
    print(f"\n{flags.model} with both moments of Adam, {size:.2f} GB; medians of {flags.rounds}")
    print(f"  a step                {median['without'] / flags.steps:7.2f} s")
    print(f"  the save's call       {median['call']:7.2f} s")
    print(f"  delay of the steps    {median['delay']:7.2f} s, {median['delay_in_steps']:.2f} steps")
    for name, limit in (("alone", "raw_write"), ("restore", "raw_read")):
        rate, most = size / median[name], size / median[limit]
        title = {"alone": "saved, no steps", "restore": "restored"}[name]
        print(f"  {title:<20}  {rate:7.2f} GB/s, {rate / most:.2f} of the disk's {most:.2f}")
    harness.write(flags.output, {"flags": vars(flags), **found, "median": median})


if __name__ == "__main__":
    main()
