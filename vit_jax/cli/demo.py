"""`vit_jax demo`: the whole way on the embedded digits, through the same functions as the other verbs."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit_jax.cli import arguments

if TYPE_CHECKING:
    import numpy as np

    from vit_jax.evaluate import Prediction

DESCRIPTION = """\
Trains a small ViT on scikit-learn's handwritten digits with configs/digits.py, tests it beside classical
classifiers on the same split, exports the weights, predicts a few pictures and says what to try next."""

CONFIG = "configs/digits.py"
PICTURES = 4


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("demo", DESCRIPTION, arguments.CONFIG_HELP)
    parser.add_argument("--workdir", default="runs/digits", help="folder of the run (default: runs/digits)")
    flags, overrides = arguments.parse(parser, argv)
    began = time.monotonic()

    from vit_jax import data, parallel
    from vit_jax.checkpoint import load
    from vit_jax.cli.embedded import prepare_embedded
    from vit_jax.config_files import load_settings
    from vit_jax.evaluate import predict
    from vit_jax.inspect import draw_learning_curve
    from vit_jax.train import METRICS_FILE, RunSettings, read_metrics, train

    workdir = Path(flags.workdir)
    settings = load_settings(RunSettings, CONFIG, overrides)
    prepare_embedded(settings)
    parallel.keep_compiled(data.cache_dir() / "compiled")
    result = train(settings, workdir)
    curve = draw_learning_curve(read_metrics(workdir / METRICS_FILE), workdir / "learning_curve.png", "ViT on digits")
    pictures = _write_pictures(workdir / "pictures")
    weights = load(result.exported[0])
    predictions = predict(weights, data.decode_files([str(p) for p in pictures], settings.data), top=2)
    _say_predictions(pictures, predictions)
    _say_scores(result.evaluation["accuracy"])
    _say_files(workdir, [curve, *result.exported], pictures)
    print(f"\ndone in {time.monotonic() - began:.0f} s")
    return 0


def _write_pictures(folder: Path) -> list[Path]:
    """A few test digits as PNG files named after their true class."""
    from matplotlib import image

    from vit_jax.data import embedded_split

    images, labels = embedded_split("test")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"test_{i}_is_{labels[i]}.png" for i in range(PICTURES)]
    for path, picture in zip(paths, images, strict=False):
        image.imsave(path, picture, cmap="gray", vmin=0, vmax=255)
    return paths


def _say_predictions(pictures: list[Path], predictions: "list[list[Prediction]]") -> None:
    print("\npredictions with the exported weights")
    for path, found in zip(pictures, predictions, strict=True):
        print(f"  {path}  ->  " + ", ".join(f"{p.label} ({p.probability:.1%})" for p in found))


def _say_scores(accuracy: float) -> None:
    print("\ntest accuracy, 360 stratified images held out of 1,797 (1,437 for training)")
    for name, score in [("this ViT", accuracy), *_classical_scores()]:
        print(f"  {name:<40} {score:.2%}")


def _classical_scores() -> list[tuple[str, float]]:
    """scikit-learn's classifiers on the same split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    from vit_jax.data import embedded_split

    def flat(split: str) -> "tuple[np.ndarray, np.ndarray]":
        images, labels = embedded_split(split)
        return images.reshape(len(images), -1) / 255, labels

    (x, y), (test_x, test_y) = flat("train"), flat("test")
    models = [
        ("scikit-learn LogisticRegression", LogisticRegression(max_iter=2000)),
        ("scikit-learn SVC (RBF kernel)", SVC(kernel="rbf", gamma="scale")),
    ]
    return [(name, float(model.fit(x, y).score(test_x, test_y))) for name, model in models]


def _say_files(workdir: Path, files: list[Path], pictures: list[Path]) -> None:
    from vit_jax.train import METRICS_FILE

    about = {
        workdir / "config.json": "the resolved config",
        workdir / METRICS_FILE: "metrics, one JSON object a line",
        workdir / "tensorboard": "the same for TensorBoard",
        workdir / "checkpoints": "training states, resumable",
        files[0]: "the learning curve",
        files[1]: "the weights, in the layout of Google's released ViT files",
        files[2]: "their config and label names",
        pictures[0].parent: "the pictures that were predicted",
    }
    here = Path.cwd()
    shown = {
        str(p.absolute().relative_to(here) if p.absolute().is_relative_to(here) else p): t for p, t in about.items()
    }
    width = max(map(len, shown))
    print("\nwritten")
    for path, text in shown.items():
        print(f"  {path:<{width}}  {text}")
    program = "vit_jax" if shutil.which("vit_jax") else f"{os.path.relpath(sys.executable)} -m vit_jax"
    print(
        "\ntry next\n"
        f"  {program} predict  --checkpoint={workdir} {pictures[0]}\n"
        f"  {program} evaluate --checkpoint={workdir} --split=train\n"
        f"  {program} train    --config={CONFIG} --workdir=w --config.model.variant=S/4  # Ctrl-C, run again\n"
        f"  {program} train    --config=configs/folder.py:/path/to/images --workdir=mine   # your own images"
    )
