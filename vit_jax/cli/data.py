"""`vit_jax data`."""

import argparse
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.data import Dataset
    from vit_jax.train import RunSettings

DESCRIPTION = """\
Shows what the data pipeline of a config yields: splits, classes, shapes, speed, host memory, and two sheets of
pictures, of training as it is augmented and of evaluation.

  vit_jax data --config=configs/digits.py --output=look
  vit_jax data --catalog                        # data sets with known splits and protocols
  vit_jax data --catalog=vtab/clevr_count       # what a config says about one of them"""

SHOWN_CLASSES = 8


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("data", DESCRIPTION, arguments.CONFIG_HELP)
    parser.add_argument("--config", metavar="FILE[:ARG]", help="a config file, and what it accepts")
    parser.add_argument("--output", default="data_preview", help="folder for the sheets (default: data_preview)")
    parser.add_argument("--examples", type=int, default=2048, help="images to measure with (default: 2048)")
    parser.add_argument("--images", type=int, default=32, help="pictures on each sheet (default: 32)")
    parser.add_argument("--hosts", type=int, default=1, help="plan for a job of so many hosts (default: 1)")
    parser.add_argument("--catalog", nargs="?", const="", metavar="TASK", help="list the known tasks, or show one")
    parser.add_argument("--stage", default="final", help="of --catalog=TASK: dev or final (default: final)")
    parser.add_argument("--crops", help="of --catalog=TASK: pretrain, vit, bit or bit_large (default: the task's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    flags, overrides = arguments.parse(parser, argv)
    if flags.catalog is not None:
        found = _tasks() if not flags.catalog else _task(flags.catalog, flags.stage, flags.crops)
        _print(found, flags.json, _list if not flags.catalog else _show_task)
        return 0
    if flags.config is None:
        parser.error("give --config or --catalog")
    for name in ("examples", "images", "hosts"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name}={getattr(flags, name)}: must be at least 1")
    _print(_look(flags, overrides), flags.json, _show)
    return 0


def _print(found: Any, as_json: bool, show: Any) -> None:
    if as_json:
        print(json.dumps(found))
    else:
        show(found)


def _look(flags: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """Everything the verb finds out, ready for JSON."""
    import numpy as np

    from vit_jax import data
    from vit_jax.cli.embedded import prepare_embedded
    from vit_jax.config_files import load_settings
    from vit_jax.data import preview
    from vit_jax.errors import BadSetting
    from vit_jax.train import RunSettings

    settings = load_settings(RunSettings, flags.config, overrides)
    batch = settings.train.batch_size
    if batch % flags.hosts:
        raise BadSetting("--hosts", flags.hosts, f"must divide config.train.batch_size = {batch}")
    prepare_embedded(settings)
    data.check_preprocess(settings.data)
    splits = _open(settings)
    rows = np.arange(batch // flags.hosts)
    before = _resident_bytes()
    measured = preview.measure(splits["train"], settings.seed, batch, rows, settings.data.prefetch, flags.examples)
    dtype, shape = measured.arrays["label"]
    eval_rows = -(-(settings.evaluate.batch_size or batch) // flags.hosts)
    per_host = {"train": len(rows), "eval": eval_rows}
    label_bytes = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    plan = preview.memory_plan(settings.data, splits, per_host, label_bytes)
    written = _draw(settings, splits, Path(flags.output), flags.images)
    return {
        "data": settings.data.name,
        "splits": {name: _describe(settings, name, split) for name, split in splits.items()},
        "batch": {name: {"dtype": d, "shape": [len(rows), *s]} for name, (d, s) in measured.arrays.items()},
        "labels": _histogram(splits["train"].label_names, measured),
        "speed": {
            "images": measured.examples,
            "per_second": round(measured.images_per_second, 1),
            "per_cpu_second": round(measured.images_per_cpu_second, 1),
        },
        "memory": {
            "plan_bytes": plan,
            "total_bytes": sum(plan.values()),
            "process_before_bytes": before,
            "process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        },
        "skipped": {name: _skipped(split) for name, split in splits.items()},
        "written": written,
    }


def _open(settings: "RunSettings") -> "dict[str, Dataset]":
    from vit_jax.train import open_split

    splits = {"train": open_split(settings, settings.data.train_split, "config.data.train_split")}
    if settings.evaluate.split:
        splits["eval"] = open_split(settings, settings.evaluate.split, "config.evaluate.split")
    return splits


def _describe(settings: "RunSettings", name: str, split: "Dataset") -> dict[str, Any]:
    training = name == "train"
    return {
        "split": settings.data.train_split if training else settings.evaluate.split,
        "examples": split.size,
        "classes": len(split.label_names),
        "preprocess": settings.data.train_preprocess if training else settings.data.eval_preprocess,
    }


def _histogram(names: tuple[str, ...], measured: Any) -> dict[str, float]:
    """{class: share of the examples}, the most frequent first."""
    order = sorted(range(len(names)), key=lambda i: (-measured.counts[i], i))
    return {names[i]: round(float(measured.counts[i]) / measured.examples, 6) for i in order}


def _skipped(split: "Dataset") -> int:
    """Bad pictures met so far."""
    return int(getattr(split, "skipped", 0))


def _draw(settings: "RunSettings", splits: "dict[str, Dataset]", folder: Path, number: int) -> list[str]:
    import numpy as np

    from vit_jax.data import preview
    from vit_jax.inspect import draw_contact_sheet

    batch = settings.train.batch_size
    rows = np.arange(min(number, batch))
    size = -(-number // len(rows))
    streams = {"train": splits["train"].train_batches(settings.seed, batch, rows, 0, size)}
    if "eval" in splits:
        streams["eval"] = splits["eval"].eval_batches(number, np.arange(number))
    written = []
    for name, stream in streams.items():
        images, labels = preview.pictures(stream, number, splits[name].label_names)
        about = _describe(settings, name, splits[name])
        title = f"{settings.data.name} [{about['split']}]   {about['preprocess']}"
        written.append(str(draw_contact_sheet(images, labels, folder / f"{name}_images.png", title)))
    return written


def _resident_bytes() -> int:
    """What the process holds now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * resource.getpagesize()


def _show(found: dict[str, Any]) -> None:
    for name, split in found["splits"].items():
        print(
            f"{name:<8} {found['data']} [{split['split']}], {split['examples']:,} images, {split['classes']:,} classes"
        )
        print(f"         {split['preprocess']}")
    arrays = ", ".join(f"{k} {a['dtype']} {tuple(a['shape'])}" for k, a in found["batch"].items())
    print(f"batch    {arrays}")
    speed = found["speed"]
    print(
        f"speed    {speed['per_second']:,.0f} images/s, {speed['per_cpu_second']:,.0f} per CPU-second, "
        f"over {speed['images']:,} training images"
    )
    print(f"classes  {_classes(found['labels'])}")
    memory = found["memory"]
    print(f"memory   {_mib(memory['total_bytes'])} on this host for the pipelines:")
    for part, size in memory["plan_bytes"].items():
        print(f"         {_mib(size):>12}  {part}")
    before, peak = _mib(memory["process_before_bytes"]), _mib(memory["process_peak_bytes"])
    print(f"         the process held {before} before and {peak} at most while this was measured")
    if any(found["skipped"].values()):
        print(
            "skipped  " + ", ".join(f"{n} {s:,}" for n, s in found["skipped"].items()) + " pictures that cannot be read"
        )
    print("written  " + ", ".join(found["written"]))


def _classes(labels: dict[str, float]) -> str:
    """The most frequent classes, the rarest, and how many were not seen."""
    shares = [f"{name} {share:.1%}" for name, share in labels.items()]
    unseen = sum(share == 0 for share in labels.values())
    if len(shares) > SHOWN_CLASSES + 1:
        shares = [*shares[:SHOWN_CLASSES], "...", shares[-1]]
    return ", ".join(shares) + (f"; {unseen:,} classes were not met" if unseen else "")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _tasks() -> list[dict[str, Any]]:
    from vit_jax.data import catalog

    return [
        {"name": t.name, "title": t.title, "data": t.data, "classes": t.classes, "prepare": t.prepare}
        for t in catalog.TASKS.values()
    ]


def _list(tasks: list[dict[str, Any]]) -> None:
    width, titles = (max(len(t[key]) for t in tasks) for key in ("name", "title"))
    for task in tasks:
        print(f"{task['name']:<{width}}  {task['title']:<{titles}}  {task['classes']:>6,} classes  {task['prepare']}")


def _task(name: str, stage: str, crops: str | None) -> dict[str, Any]:
    import dataclasses

    from vit_jax.data import catalog

    task = catalog.get(name)
    data_name = task.data or "<your data set>"
    settings = catalog.settings_for(name, stage, crops, data_name)
    return {**dataclasses.asdict(task), "prepare": task.prepare, "config": settings}


def _show_task(task: dict[str, Any]) -> None:
    group = f", {task['group']}" if task["group"] else ""
    print(f"# {task['title']}{group}: {task['classes']:,} classes, metric {task['metric']}")
    for key, text in (("prepare", task["prepare"]), ("needs", task["manual"]), ("note", task["note"])):
        if text:
            print(f"# {key}: {text}")
    for room, fields in task["config"].items():
        for field, value in fields.items():
            text = json.dumps(value) if isinstance(value, str) else value
            print(f"config.{room}.{field} = {text}")
