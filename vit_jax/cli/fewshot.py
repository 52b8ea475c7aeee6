"""`vit_jax fewshot`."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.evaluate import Evaluator, EvaluatorSettings, Subject
    from vit_jax.train import RunSettings

DESCRIPTION = """\
Few-shot and other tests of frozen features, solved in closed form: regularised least squares to targets of -1 and +1 on
1, 5, 10 and 25 images of each class, over three choices of images (ViT paper, section 4.1).

  vit_jax fewshot --checkpoint=w                                       # on the data set of the run
  vit_jax fewshot --checkpoint=ViT-B_16.npz --tasks=cifar100,oxford_iiit_pet
  vit_jax fewshot --checkpoint=w --kind=knn --neighbours=10
  vit_jax fewshot --checkpoint=w --kind=linear --tasks=vtab --l2=1,32,1024   # the strength is chosen on held-out images

The data set is the one of the run, or tasks of the catalog; --config.data.<key>=<value> and --config.mesh.<key>=<value>
change the data set and the mesh."""


_OWN = "fewshot_verb_"  # begins the names of evaluators that are added to those of the run


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("fewshot", DESCRIPTION)
    arguments.add_checkpoint(parser)
    parser.add_argument("--tasks", metavar="LIST", default="", help="tasks of the catalog, joined by commas, or vtab")
    parser.add_argument("--kind", choices=("fewshot", "linear", "knn"), default="fewshot", help="default: fewshot")
    parser.add_argument(
        "--shots", metavar="LIST", default="1,5,10,25", help="images of each class (default: 1,5,10,25)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="choices of the images (default: 3)")
    parser.add_argument("--l2", metavar="LIST", default="1024", help="strength; the best of several (default: 1024)")
    parser.add_argument("--neighbours", type=int, default=20, help="of knn (default: 20)")
    parser.add_argument("--support", default="", help="split to learn from (default: the task's, or train)")
    parser.add_argument("--split", default="", help="split to test on (default: the task's, or test)")
    parser.add_argument("--validation", default="", help="split to choose l2 on (default: the task's)")
    parser.add_argument("--batch_size", type=int, help="global batch (default: the run's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments.add_distributed(parser)
    flags, overrides = arguments.parse(parser, argv)

    from vit_jax import parallel
    from vit_jax.cli.embedded import prepare_embedded
    from vit_jax.cli.weights import on_devices, open_weights, settings_of

    arguments.join(flags)
    with parallel.together():
        weights, overrides = open_weights(flags, overrides)
        settings = settings_of(weights, overrides, _evaluators(flags))
    prepare_embedded(settings)
    with parallel.together():
        subject, params = on_devices(weights, settings, flags.batch_size)
        evaluators = _open(settings, subject)
    found = {name: evaluator.run(params) for name, evaluator in evaluators.items()}
    if parallel.is_main():
        about = {"checkpoint": str(weights.source), "step": weights.metadata.step, "kind": flags.kind}
        if flags.json:
            print(json.dumps({**about, "evaluations": found}))
            return 0
        print(f"{about['checkpoint']} (step {about['step']}{', averaged' if weights.averaged else ''})")
        width = max(map(len, found))
        for name, numbers in found.items():
            print(f"  {name:<{width}}  {evaluators[name].describe(numbers)}")
    return 0


def _evaluators(flags: argparse.Namespace) -> "dict[str, EvaluatorSettings]":
    """One for each task, or for the data set of the run."""
    from vit_jax.evaluate import EvaluatorSettings

    shared = EvaluatorSettings(
        kind=flags.kind,
        split=flags.split,
        support=flags.support,
        validation=flags.validation,
        shots=arguments.numbers("--shots", flags.shots, int),
        seeds=flags.seeds,
        l2=arguments.numbers("--l2", flags.l2, float),
        neighbours=flags.neighbours,
    )
    tasks = [text.strip() for text in flags.tasks.split(",")]
    return {f"{_OWN}{i}": dataclasses.replace(shared, task=task) for i, task in enumerate(tasks)}


def _open(settings: "RunSettings", subject: "Subject") -> "dict[str, Evaluator]":
    """{task or data set: evaluator} of those that this verb added to the settings."""
    from vit_jax.evaluate import make_evaluator

    found = {}
    for name, about in settings.evaluators.items():
        if name.startswith(_OWN):
            found[about.task or settings.data.name] = make_evaluator(
                about, subject, "--tasks" if about.task else "flags"
            )
    return found
