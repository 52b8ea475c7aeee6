"""Images per CPU-second of input pipelines: JPEGs of about 500x375 -> decode, inception crop to 224, flip, batch.

    python benchmarks/input_pipeline.py --rounds=5 --torch_python=.venv-interop/bin/python

Compared, in turns on the same cores of the same machine:

* ours on TFRecord (through TFDS) and on a folder: uint8 batches, seeded, resumable;
* `big_vision`: the operations of its public string `decode_jpeg_and_inception_crop(224)|flip_lr|value_range(-1, 1)`
  with the tf.data options of its public pipeline: parallel map, private threads, shuffle buffer; float32 batches;
* `tf.data, uint8`: the same operations without value_range, and no more threads than cores: as lean as they get;
* `timm`: a PyTorch DataLoader with timm's training transform and its uint8 collation, one worker a core (optional: it
  runs under `--torch_python`, which needs torch and timm);
* `crop decode`: libjpeg-turbo alone, on the windows that ours draws, on as many threads: what no pipeline can beat.

CPU-seconds are user and system time of the process and its workers. Pipelines work ahead, so each turn ends when the
process has come to rest with the same number of batches ready as before; caches are warm. Ratios are of medians.
"""

import argparse
import concurrent.futures
import importlib.metadata
import io
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torchvision_operators

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # TensorFlow's default; ours switches it off, which costs tf.data a third

SIDE = 224
CLASSES = 10
AREA = (0.05, 1.0)
CORES = len(os.sched_getaffinity(0))
Batches = Iterator[Any]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each pipeline; their median counts")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=6, help="in each turn")
    parser.add_argument("--pictures", type=int, default=400, help="different JPEGs")
    parser.add_argument("--torch_python", help="a Python with torch and timm, for the DataLoader")
    parser.add_argument("--output", help="JSON file (default: none)")
    parser.add_argument("--torch_folder", help=argparse.SUPPRESS)  # set where this file runs under --torch_python
    args = parser.parse_args()
    for name in ("rounds", "batch_size", "batches", "pictures"):
        if getattr(args, name) < 1:
            parser.error(f"--{name}={getattr(args, name)}: must be at least 1")
    return args


# pictures


def photographs(number: int) -> Iterator[bytes]:
    """Different JPEGs of quality 90, made of scikit-learn's two photographs: cut, scaled, some of them turned."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    sources = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    for i in range(number):
        source = sources[i % 2]
        part = rng.uniform(0.6, 1.0)
        width, height = (round(side * part) for side in source.size)
        left, top = (int(rng.integers(0, a - b + 1)) for a, b in zip(source.size, (width, height), strict=True))
        size = int(rng.integers(440, 561)), int(rng.integers(330, 421))
        image = source.resize(size, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))
        image = image.rotate(90, expand=True) if i % 4 == 3 else image
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        yield file.getvalue()


def write_folder(pictures: list[bytes], root: Path) -> None:
    for number, data in enumerate(pictures):
        path = root / "train" / f"class {number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_tfds(pictures: list[bytes], root: Path) -> list[str]:
    """Writes a TFDS data set `photographs`; gives its TFRecord files."""
    import tensorflow_datasets as tfds

    class Photographs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            image, label = tfds.features.Image(encoding_format="jpeg"), tfds.features.ClassLabel(num_classes=CLASSES)
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict({"image": image, "label": label})
            )

        def _split_generators(self, _: Any) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            for number, data in enumerate(pictures):
                yield number, {"image": io.BytesIO(data), "label": number % CLASSES}

    tfds.disable_progress_bar()
    builder = Photographs(data_dir=str(root), file_format="tfrecord")
    builder.download_and_prepare()
    return [str(path) for path in builder.info.splits["train"].filepaths]


# pipelines


def ours(name: str, data_dir: Path, batch_size: int) -> Batches:
    from vit_jax.data import DataSettings, open_dataset

    dataset = open_dataset(DataSettings(name=name, data_dir=str(data_dir), image_size=(SIDE,)), "train")
    return dataset.train_batches(0, batch_size, np.arange(batch_size), 0, 1_000_000)


def tf_data(files: list[str], batch_size: int, number_of_pictures: int, lean: bool) -> Batches:
    """big_vision's operations; `lean` leaves out the value range and all threads beyond one a core."""
    import tensorflow as tf

    features = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.int64)}

    def one(record: tf.Tensor) -> dict[str, tf.Tensor]:
        example = tf.io.parse_single_example(record, features)
        start, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(example["image"]),
            tf.zeros((0, 0, 4), tf.float32),
            area_range=AREA,
            aspect_ratio_range=(0.75, 1.33),
            min_object_covered=0,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([start[:2], size[:2]], axis=0)
        image = tf.image.decode_and_crop_jpeg(example["image"], window, channels=3)
        image = tf.cast(tf.clip_by_value(tf.image.resize(image, (SIDE, SIDE)), 0, 255), tf.uint8)
        image = tf.image.random_flip_left_right(image)
        if not lean:
            image = tf.cast(image, tf.float32) / 255 * 2 - 1
        return {"image": image, "label": example["label"]}

    dataset = tf.data.TFRecordDataset(files).cache().shuffle(number_of_pictures).repeat()
    dataset = dataset.map(one, num_parallel_calls=CORES if lean else 100)
    dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = CORES if lean else 48
    options.threading.max_intra_op_parallelism = 1
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options).as_numpy_iterator()


def crop_decode(pictures: list[bytes], batch_size: int) -> Batches:
    """Nothing but libjpeg-turbo on the windows that our `inception_crop` draws."""
    from vit_jax.data import libjpeg
    from vit_jax.data.ops import HostContext
    from vit_jax.data.order import example_seeds
    from vit_jax.data.picture import Picture
    from vit_jax.data.preprocess import compile_steps

    host = compile_steps("decode|inception_crop", "preprocess", (SIDE, SIDE), 3).host
    pool = concurrent.futures.ThreadPoolExecutor(CORES)
    asked: list[tuple[Any, ...]] = []

    class Asking(Picture):
        def resize(self, *_: Any, **__: Any) -> None:
            asked.append((self._source, self._full, self._bounds, 3))

    draws = host.draws(example_seeds(0, np.arange(4 * len(pictures))))
    for row, data in enumerate(itertools.islice(itertools.cycle(pictures), 4 * len(pictures))):
        picture = Asking(data)
        for (_, (function, arguments)), numbers in zip(host.steps, draws, strict=True):
            function(picture, HostContext((SIDE, SIDE), 3, numbers[row]), **arguments)

    def some(part: list[tuple[Any, ...]]) -> None:
        for arguments in part:
            libjpeg.decode_window(*arguments)

    windows = itertools.cycle(asked)
    while True:
        batch = list(itertools.islice(windows, batch_size))
        yield list(pool.map(some, [batch[i::8] for i in range(8)]))


def timm_loader(folder: str, batch_size: int) -> tuple[Batches, Callable[[], list[int]]]:
    """timm's loader, and the process ids of its workers."""
    import torch

    torchvision_operators.register()
    from timm.data import create_transform
    from timm.data.loader import fast_collate
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(1)
    transform = create_transform(
        SIDE,
        is_training=True,
        use_prefetcher=True,  # uint8, normalised on the device
        scale=AREA,
        ratio=(3 / 4, 4 / 3),
        interpolation="bilinear",
        hflip=0.5,
        color_jitter=None,
        auto_augment=None,
    )
    dataset = ImageFolder(folder, transform)
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=10**9)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=CORES, collate_fn=fast_collate, persistent_workers=True
    )
    batches = iter(loader)
    return batches, lambda: [worker.pid for worker in batches._workers]


# measuring


def cpu_seconds(workers: list[int]) -> float:
    """User and system time so far, of this process and of workers that still run."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    for pid in workers:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def rest(workers: list[int]) -> float:
    """CPU-seconds once all that works ahead has filled its queues."""
    before = cpu_seconds(workers)
    while True:
        time.sleep(0.1)
        after = cpu_seconds(workers)
        if after - before < 0.005:
            return after
        before = after


def turn(batches: Batches, number: int, batch_size: int, workers: list[int]) -> float:
    """Images per CPU-second of so many batches."""
    start = rest(workers)
    for _ in range(number):
        next(batches)
    return number * batch_size / (rest(workers) - start)


class TorchProcess:
    """This file under another Python, which runs the DataLoader and takes a turn for each line it is sent."""

    def __init__(self, python: str, folder: Path, args: argparse.Namespace):
        command = [python, __file__, f"--torch_folder={folder}", f"--batch_size={args.batch_size}"]
        command.append(f"--batches={args.batches}")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process under --torch_python ended: are torch, torchvision and timm installed there?")
        return line

    def turn(self) -> float:
        assert self._process.stdin is not None
        print("turn", file=self._process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        self._process.communicate()


def serve_torch(args: argparse.Namespace) -> None:
    batches, workers = timm_loader(f"{args.torch_folder}/train", args.batch_size)
    for _ in range(CORES + 1):
        next(batches)
    print(json.dumps(versions("torch", "torchvision", "timm", "pillow")), flush=True)
    for _ in sys.stdin:
        print(turn(batches, args.batches, args.batch_size, workers()), flush=True)


def versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


# the run


def main() -> None:
    args = parse_arguments()
    if args.torch_folder:
        serve_torch(args)
        return
    if args.output:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        result = run(args, Path(place))
    if args.output:
        Path(args.output).write_text(json.dumps(result, indent=2) + "\n")
        print(f"\nwritten to {args.output}")


def run(args: argparse.Namespace, place: Path) -> dict[str, Any]:
    pictures = list(photographs(args.pictures))
    write_folder(pictures, place / "folder")
    files = write_tfds(pictures, place / "tfds")
    size = args.batch_size
    streams: dict[str, Batches] = {
        "ours, TFRecord": ours("photographs", place / "tfds", size),
        "ours, folder": ours("folder", place / "folder", size),
        "big_vision": tf_data(files, size, args.pictures, lean=False),
        "tf.data, uint8": tf_data(files, size, args.pictures, lean=True),
        "crop decode": crop_decode(pictures, size),
    }
    turns: dict[str, Callable[[], float]] = {
        name: lambda stream=stream: turn(stream, args.batches, size, []) for name, stream in streams.items()
    }
    torch = TorchProcess(args.torch_python, place / "folder", args) if args.torch_python else None
    if torch:
        turns["timm"] = torch.turn
    for stream in streams.values():
        next(stream)
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(args.rounds):
        for name, take in turns.items():
            rates[name].append(take())
            print(f"round {number + 1}: {name:16} {rates[name][-1]:7.0f} images per CPU-second", flush=True)
    if torch:
        torch.close()
    return report(args, pictures, rates, torch.versions if torch else {})


def report(
    args: argparse.Namespace, pictures: list[bytes], rates: dict[str, list[float]], torch_versions: dict[str, str]
) -> dict[str, Any]:
    from vit_jax.data import libjpeg

    median = {name: float(np.median(found)) for name, found in rates.items()}
    goals = {"big_vision": 1.2, "timm": 2.0, "crop decode": 0.75}
    ratios = {}
    print(f"\n{'median of ' + str(args.rounds):22}" + "".join(f"{name:>16}" for name in median))
    print(f"{'images per CPU-second':22}" + "".join(f"{value:16.0f}" for value in median.values()))
    for mine in ("ours, TFRecord", "ours, folder"):
        ratios[mine] = {name: median[mine] / median[name] for name in median if not name.startswith("ours")}
        for name, ratio in ratios[mine].items():
            goal = f" (goal {goals[name]:.2f})" if name in goals else ""
            print(f"{mine:16} is {ratio:5.2f} times {name}{goal}")
    return {
        "images_per_cpu_second": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
        "median": {name: round(value, 1) for name, value in median.items()},
        "ratios": {name: {k: round(v, 3) for k, v in found.items()} for name, found in ratios.items()},
        "goals": goals,
        "settings": {
            "batch_size": args.batch_size,
            "batches_a_turn": args.batches,
            "rounds": args.rounds,
            "pictures": args.pictures,
            "mean_bytes": round(float(np.mean([len(data) for data in pictures]))),
            "decoder": "libturbojpeg" if libjpeg._library() else "tensorflow",
        },
        "machine": {"cpu": cpu_name(), "cores": CORES, "python": platform.python_version()},
        "versions": versions(
            "tensorflow-cpu", "tensorflow", "tensorflow-datasets", "numpy", "opencv-python-headless", "turbojpeg"
        )
        | {f"{name} (timm's process)": version for name, version in torch_versions.items()},
    }


if __name__ == "__main__":
    main()
