"""What the training loop costs beside its steps: by its own account, by a profile, and beside the bare program.

    python benchmarks/loop.py                                                  # CPU: steps of about 100 ms
    python benchmarks/loop.py --model=B/16 --image_size=224 --batch_size=256 --dtype=bfloat16

Turns alternate: `vit_jax train` on synthetic images, with its input, records, hang detection and asynchronous
checkpoints; the same without any save before its end; and the same compiled step by itself on one batch that lies on
the device. The account is that of `goodput.jsonl` between the first and the last checkpoint: without compiling,
profiling and exporting. What slows the steps themselves, threads that want the same cores or memory that is still read,
it counts as steps: that shows beside the bare program alone. The profile is of ten steps before the first checkpoint:
the share of its time in which no device is at work.
"""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

import harness
import jax
import subjects
import train_step

from vit_jax.train import METRICS_FILE, RunSettings, read_metrics, train
from vit_jax.train.goodput import GOODPUT_FILE
from vit_jax.train.lines import read_json_lines

CHECKPOINTS, PROFILED = 4, 10
# What says that a CPU is at work on a program; accelerators have planes of their own.
CPU_WORK = "ThunkExecutor::Execute"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Ti/16")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=harness.count, default=400, help="of a turn")
    parser.add_argument("--rounds", type=harness.count, default=3)
    parser.add_argument("--output", help="JSON file (default: none)")
    flags = parser.parse_args()
    if flags.steps < 2 * PROFILED * CHECKPOINTS:
        parser.error(
            f"--steps={flags.steps}: write at least {2 * PROFILED * CHECKPOINTS}, so that the profile is taken"
        )
    return flags


def settings_with(flags: argparse.Namespace, every: int) -> RunSettings:
    """The run with a save every so many steps."""
    changes = f"train.duration={flags.steps} steps,checkpoint.every={every} steps,log.every=10 steps,schedule.warmup=5%"
    return subjects.settings_of(flags, changes)


def whole_loop(flags: argparse.Namespace, workdir: Path) -> dict[str, float]:
    """Of a run: seconds a step, shares of its parts in percent, and the share in which the profile shows no work."""
    every = flags.steps // CHECKPOINTS
    first = every // 2
    settings = settings_with(flags, every)
    log = dataclasses.replace(settings.log, profile_steps=(first, first + PROFILED - 1))
    train(dataclasses.replace(settings, log=log), workdir)
    lines = read_json_lines(workdir / GOODPUT_FILE)
    since, until = lines[0], lines[CHECKPOINTS - 1]
    seconds = {part: value - since["seconds"][part] for part, value in until["seconds"].items()}
    whole = sum(seconds.values())
    shares = {f"{part} %": 100 * value / whole for part, value in seconds.items() if value}
    return {"step": whole / (until["step"] - since["step"]), **shares, "idle in the profile %": 100 * idle(workdir)}


def without_saves(flags: argparse.Namespace, workdir: Path) -> float:
    """Seconds a step of a run that saves at its end alone."""
    train(settings_with(flags, flags.steps), workdir)
    rates = [record["images_per_second"] for record in read_metrics(workdir / METRICS_FILE) if "loss" in record]
    return flags.batch_size / rates[-1]  # the mean over all steps


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


def a_round(flags: argparse.Namespace, workdir: Path) -> dict[str, float]:
    """A turn of each, and what they are beside the bare step."""
    found = {**whole_loop(flags, workdir / "saved"), "step without saves": without_saves(flags, workdir / "unsaved")}
    bare = train_step.ours(flags, "", subjects.random_params(subjects.program_of(flags).model))
    harness.turn(bare, PROFILED)
    found["bare step"] = harness.turn(bare, flags.steps // 2)[0] / (flags.steps // 2)
    found["beside bare"] = found["step"] / found["bare step"]
    found["without saves, beside bare"] = found["step without saves"] / found["bare step"]
    return found


def main() -> None:
    flags = parse_arguments()
    harness.check_output(flags.output)
    if jax.device_count() > 1:
        raise SystemExit(f"one device is measured and there are {jax.device_count()}: set CUDA_VISIBLE_DEVICES=0")
    with harness.settings_in_one_line(), tempfile.TemporaryDirectory() as place:
        turns = [a_round(flags, Path(place) / str(number)) for number in range(flags.rounds)]
    print(f"\n{flags.model}, batch {flags.batch_size}, {flags.image_size} px: medians of {flags.rounds} rounds")
    for name in turns[0]:
        found = sorted(turn.get(name, 0.0) for turn in turns)
        print(f"  {name:<27} {statistics.median(found):8.3f}  [{found[0]:.3f} .. {found[-1]:.3f}]")
    harness.write(flags.output, {"flags": vars(flags), "turns": turns})


if __name__ == "__main__":
    main()
