"""`vit_jax evaluate`."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.checkpoint import Weights
    from vit_jax.data import Dataset
    from vit_jax.train import RunSettings

DESCRIPTION = """\
Accuracy, top-5 accuracy and cross-entropy of a checkpoint or exported file, every example counted once.

  vit_jax evaluate --checkpoint=w
  vit_jax evaluate --checkpoint=w/export/model.npz --split=train --json

The data set is the one of the run; --config.data.<key>=<value> and --config.mesh.<key>=<value> change it."""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("evaluate", DESCRIPTION)
    arguments.add_checkpoint(parser)
    parser.add_argument("--split", help="split expression (default: the run's evaluation split)")
    parser.add_argument("--batch_size", type=int, help="global batch (default: the run's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--ignore_label_names", action="store_true", help="the data set's classes have other names but mean the same"
    )
    arguments.add_distributed(parser)
    flags, overrides = arguments.parse(parser, argv)

    from vit_jax import parallel
    from vit_jax.cli.weights import open_weights, settings_of
    from vit_jax.train import open_split

    parallel.start(flags.distributed)
    with parallel.together():
        weights, overrides = open_weights(flags, overrides)
        settings = settings_of(weights, overrides)
        split = flags.split or settings.evaluate.split or settings.data.train_split
        dataset = open_split(settings, split, "--split")
        _check_labels(weights, dataset, flags.ignore_label_names)
    result = _evaluate(weights, settings, dataset, flags.batch_size)
    if parallel.is_main():
        about = {"checkpoint": str(weights.source), "step": weights.metadata.step, "averaged": weights.averaged}
        _print({**about, "data": settings.data.name, "split": split, **result}, flags.json)
    return 0


def _check_labels(weights: "Weights", dataset: "Dataset", ignore_names: bool) -> None:
    """Raises UserError when the data set's classes are not those the model was trained on."""
    from vit_jax.errors import UserError

    if not weights.metadata.model.classes:
        raise UserError(f"{str(weights.source)!r} has no classifier to evaluate")
    ours, theirs = weights.metadata.label_names, dataset.label_names
    if len(ours) != len(theirs):
        raise UserError(f"config.data.name: the data set has {len(theirs)} classes and the model {len(ours)}")
    different = [(i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if different and not ignore_names:
        i, a, b = different[0]
        fix = "pass --ignore_label_names if they mean the same"
        raise UserError(f"config.data.name: class {i} is {b!r} in the data set and {a!r} in the model; {fix}")


def _evaluate(
    weights: "Weights", settings: "RunSettings", dataset: "Dataset", batch_size: int | None
) -> dict[str, float]:
    from vit_jax import parallel
    from vit_jax.cli.weights import mesh_of, params_on
    from vit_jax.evaluate import Classification

    mesh = mesh_of(settings)
    size = batch_size or settings.evaluate.batch_size or settings.train.batch_size
    parallel.check_batch("--batch_size", size, mesh)
    params = params_on(mesh, weights)
    classification = Classification(
        weights.metadata.model, dataset, mesh, size, loss=settings.train.loss, params=params
    )
    return classification.run(params)


def _print(found: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['checkpoint']} (step {found['step']}{', averaged' if found['averaged'] else ''})")
    print(f"{found['data']} [{found['split']}], {found['examples']:,.0f} images")
    for name in ("accuracy", "top5"):
        if name in found:
            print(f"  {name:<8} {found[name]:.2%}")
    print(f"  {'loss':<8} {found['loss']:.4f}")
