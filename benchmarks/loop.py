"""What the training loop costs beside its steps: by its own account, by a profile, and beside the bare program.

    python benchmarks/loop.py                                                  # CPU: steps of about 100 ms
    python benchmarks/loop.py --model=B/16 --image_size=224 --batch_size=256 --dtype=bfloat16

Turns alternate: `vit_jax train` on synthetic images, with its input, records, hang detection and asynchronous
checkpoints, and the same compiled step by itself on one batch that lies on the device. The account is that of
`goodput.jsonl` between the first and the last checkpoint, so it leaves out compiling, profiling and exporting. The
profile is of ten steps before the first checkpoint: the share of its time in which no device is at work.
"""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness
import jax
import subjects
import train_step

from vit_jax.train import train
from vit_jax.train.goodput import GOODPUT_FILE
from vit_jax.train.lines import read_json_lines

CHECKPOINTS, PROFILED = 4, 10
# What says that a CPU is at work on a program; accelerators have planes of their own.
CPU_WORK = "ThunkExecutor::Execute"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Ti/16")
    parser.add_argument("--batch_size", type=int, default=24)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=400, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="JSON file (default: none)")
    flags = parser.parse_args()
    if flags.steps < 2 * PROFILED * CHECKPOINTS:
        parser.error(
            f"--steps={flags.steps}: write at least {2 * PROFILED * CHECKPOINTS}, so that the profile is taken"
        )
    return flags


def whole_loop(flags: argparse.Namespace, workdir: Path) -> dict[str, float]:
    """Of a run: seconds a step, shares of its parts in percent, and the share in which the profile shows no work."""
    every = flags.steps // CHECKPOINTS
    first = every // 2
    changes = f"train.duration={flags.steps} steps,checkpoint.every={every} steps,log.every=10 steps,schedule.warmup=5%"
    settings = subjects.settings_of(flags, changes)
    log = dataclasses.replace(settings.log, profile_steps=(first, first + PROFILED - 1))
    train(dataclasses.replace(settings, log=log), workdir)
    lines = read_json_lines(workdir / GOODPUT_FILE)
    since, until = lines[0], lines[CHECKPOINTS - 1]
    seconds = {part: value - since["seconds"][part] for part, value in until["seconds"].items()}
    whole = sum(seconds.values())
    shares = {f"{part} %": 100 * value / whole for part, value in seconds.items() if value}
    return {"step": whole / (until["step"] - since["step"]), **shares, "idle in the profile %": 100 * idle(workdir)}


def idle(workdir: Path) -> float:
    """Share of a profile, from the first work to the last, in which no device works."""
    (path,) = (workdir / "profile").rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    spans = sorted(
        (event.start_ns, event.end_ns)
        for plane in devices or planes
        for line in plane.lines
        for event in line.events
        if devices or event.name.startswith(CPU_WORK)
    )
    return 1 - covered(spans) / (max(end for _, end in spans) - spans[0][0])


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans that are sorted by their start."""
    length, reached = 0.0, float("-inf")
    for start, end in spans:
        length += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return length


def main() -> None:
    flags = parse_arguments()
    bare = train_step.ours(flags, "", subjects.random_params(subjects.program_of(flags).model))
    times = flags.steps // 2
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for number in range(flags.rounds):
            loop = whole_loop(flags, Path(place) / str(number))
            turns.append({**loop, "bare step": harness.turn(bare, times)[0] / times})
            turns[-1]["beside bare"] = turns[-1]["step"] / turns[-1]["bare step"]
    print(f"\n{flags.model}, batch {flags.batch_size}, {flags.image_size} px: medians of {flags.rounds} rounds")
    for name in turns[0]:
        found = sorted(turn.get(name, 0.0) for turn in turns)
        print(f"  {name:<22} {statistics.median(found):8.3f}  [{found[0]:.3f} .. {found[-1]:.3f}]")
    harness.write(flags.output, {"flags": vars(flags), "turns": turns})


if __name__ == "__main__":
    main()
