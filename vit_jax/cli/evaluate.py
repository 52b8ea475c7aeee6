"""`vit_jax evaluate`."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.checkpoint import Weights
    from vit_jax.evaluate import Evaluator, EvaluatorSettings, Subject
    from vit_jax.train import RunSettings

DESCRIPTION = """\
Tests a checkpoint, export or published file; every example is counted once.

  vit_jax evaluate --checkpoint=w                                    # accuracy and loss on the run's test split
  vit_jax evaluate --checkpoint=w/export/model.npz --split=train --json
  vit_jax evaluate --checkpoint=w --on=imagenet2012_real,imagenet_v2,objectnet
  vit_jax evaluate --checkpoint=ViT-B_16.npz --on=fewshot:cifar100,linear:vtab

--on takes evaluators of the run's config by name (`all`: all of them), data sets of the catalog (`vit_jax data
--catalog`), and `fewshot:`, `linear:` or `knn:` before those: classifiers on frozen features, of which `linear:vtab` is
all 19 tasks of VTAB-1k. --config.evaluators.<name>.<key>=<value> changes one (`fewshot:cifar100` has the name
fewshot_cifar100). VTAB by fine-tuning, as papers report it, is `vit_jax finetune-grid --tasks=vtab`.

--config.data.<key>=<value> and --config.mesh.<key>=<value> change the data set and the mesh."""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("evaluate", DESCRIPTION)
    arguments.add_checkpoint(parser)
    parser.add_argument("--on", metavar="LIST", help="evaluators, data sets or kind:data set, joined by commas")
    parser.add_argument("--split", help="split expression (default: the run's evaluation split)")
    parser.add_argument("--batch_size", type=int, help="global batch (default: the run's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--ignore_label_names", action="store_true", help="the data set's classes have other names but mean the same"
    )
    arguments.add_distributed(parser)
    flags, overrides = arguments.parse(parser, argv)
    if flags.on and flags.split:
        parser.error("--split goes without --on; an evaluator's is --config.evaluators.<name>.split")

    from vit_jax import parallel
    from vit_jax.cli.embedded import prepare_embedded
    from vit_jax.cli.weights import on_devices, open_weights, settings_of

    arguments.join(flags)
    with parallel.together():
        weights, overrides = open_weights(flags, overrides)
        wanted = _wanted(flags, weights, overrides) if flags.on else {}
        settings = settings_of(weights, overrides, wanted)
    prepare_embedded(settings)
    with parallel.together():
        subject, params = on_devices(weights, settings, flags.batch_size)
        evaluators = _open(flags, settings, subject, tuple(wanted))
    found = {}
    for name, evaluator in evaluators.items():
        numbers = evaluator.run(params)
        found[name] = Found(numbers, evaluator.describe(numbers))
    if parallel.is_main():
        about = {"checkpoint": str(weights.source), "step": weights.metadata.step, "averaged": weights.averaged}
        _print(about, found, settings, flags)
    return 0


class Found(NamedTuple):
    """What one evaluator found, for programs and for people."""

    numbers: dict[str, float]
    text: str


def _wanted(flags: argparse.Namespace, weights: "Weights", overrides: Sequence[str]) -> "dict[str, EvaluatorSettings]":
    """{name: evaluator} of `--on`, before overrides."""
    from vit_jax.cli.weights import settings_of
    from vit_jax.evaluate import EvaluatorSettings

    of_run = settings_of(weights).evaluators
    wanted: dict[str, EvaluatorSettings] = {}
    for text in (part.strip() for part in flags.on.split(",")):
        if text == "all":
            wanted |= of_run
        elif text in of_run:
            wanted[text] = of_run[text]
        else:
            wanted[re.sub(r"\W", "_", text)] = EvaluatorSettings.parse(text)
    return wanted


def _open(
    flags: argparse.Namespace, settings: "RunSettings", subject: "Subject", names: Sequence[str]
) -> "dict[str, Evaluator]":
    """The evaluators of these names, all data opened; without names the run's own test, as `eval`."""
    import dataclasses

    from vit_jax.evaluate import make_evaluator
    from vit_jax.train import own_evaluator

    if not names:
        split = _split(flags, settings)
        return {"eval": own_evaluator(settings, subject, split, "--split", flags.ignore_label_names)}
    found = {}
    for name in names:
        about = settings.evaluators[name]
        if flags.ignore_label_names:
            about = dataclasses.replace(about, ignore_label_names=True)
        found[name] = make_evaluator(about, subject, f"config.evaluators.{name}")
    return found


def _split(flags: argparse.Namespace, settings: "RunSettings") -> str:
    return flags.split or settings.evaluate.split or settings.data.train_split


def _print(
    about: dict[str, Any], found: Mapping[str, Found], settings: "RunSettings", flags: argparse.Namespace
) -> None:
    if flags.on and flags.json:
        print(json.dumps({**about, "evaluations": {name: result.numbers for name, result in found.items()}}))
        return
    if flags.json:
        own = {"data": settings.data.name, "split": _split(flags, settings)}
        print(json.dumps({**about, **own, **found["eval"].numbers}))
        return
    print(f"{about['checkpoint']} (step {about['step']}{', averaged' if about['averaged'] else ''})")
    if flags.on:
        width = max(map(len, found))
        for name, result in found.items():
            print(f"  {name:<{width}}  {result.text}")
        return
    numbers = found["eval"].numbers
    print(f"{settings.data.name} [{_split(flags, settings)}], {numbers['examples']:,.0f} images")
    for name in ("accuracy", "top5"):
        if name in numbers:
            print(f"  {name:<8} {numbers[name]:.2%}")
    print(f"  {'loss':<8} {numbers['loss']:.4f}")
