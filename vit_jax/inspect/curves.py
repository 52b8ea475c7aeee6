"""The learning curve of a run from its metrics file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax.errors import UserError


def draw_learning_curve(records: Sequence[dict[str, Any]], path: Path, title: str) -> Path:
    """Draws loss, accuracy and learning rate over steps into a PNG.

    Args:
      records: from `train.read_metrics`.
      path: the PNG to write.
      title: above the picture.

    Raises:
      UserError: the records hold no training loss.
    """
    from matplotlib.figure import Figure

    train = [r for r in records if "loss" in r]
    tests = [r for r in records if "eval/loss" in r]
    if not train:
        raise UserError(f"no training metrics to draw into {str(path)!r}: the run has not logged any step")
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title)
    loss, accuracy, rate = figure.subplots(1, 3)
    steps = [r["step"] for r in train]
    test_steps = [r["step"] for r in tests]
    loss.plot(steps, [r["loss"] for r in train], label="train (as optimised)", color="tab:blue", linewidth=1)
    loss.plot(test_steps, [r["eval/loss"] for r in tests], label="test", color="tab:orange", marker="o", markersize=3)
    loss.set(title="loss", xlabel="step", yscale="log")
    accuracy.plot(steps, [100 * r["accuracy"] for r in train], label="train", color="tab:blue", linewidth=1)
    shown = [100 * r["eval/accuracy"] for r in tests]
    accuracy.plot(test_steps, shown, label="test", color="tab:orange", marker="o", markersize=3)
    accuracy.set(title="accuracy (%)", xlabel="step", ylim=(0, 101))
    rate.plot(steps, [r["learning_rate"] for r in train], color="tab:green")
    rate.set(title="learning rate", xlabel="step")
    for axes in (loss, accuracy):
        axes.legend()
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
