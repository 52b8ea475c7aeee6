"""`vit_jax evaluate`."""

import json
from collections.abc import Sequence

from vit_jax.cli import arguments

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
    arguments.add_distributed(parser)
    flags, overrides = arguments.parse(parser, argv)

    from vit_jax import parallel
    from vit_jax.checkpoint import load_weights
    from vit_jax.cli.weights import settings_of
    from vit_jax.errors import BadSetting, UserError
    from vit_jax.evaluate import Classification
    from vit_jax.train import open_split

    parallel.start(flags.distributed)
    weights = load_weights(flags.checkpoint, flags.step)
    settings = settings_of(weights, overrides)
    try:
        mesh = parallel.make_mesh(settings.mesh)
    except BadSetting as error:
        raise error.below("config") from None
    batch_size = flags.batch_size or settings.evaluate.batch_size or settings.train.batch_size
    parallel.check_batch("--batch_size", batch_size, mesh)
    split = flags.split or settings.evaluate.split or settings.data.train_split
    dataset = open_split(settings, split, "--split")
    model = weights.metadata.model
    if len(dataset.label_names) != model.classes:
        fix = f"the model has {model.classes} classes and {settings.data.name} {len(dataset.label_names)}"
        raise UserError(f"--config.data.name={settings.data.name}: {fix}")
    result = Classification(model, dataset, mesh, batch_size).run(weights.params)
    if not parallel.is_main():
        return 0
    about = {"checkpoint": str(weights.source), "step": weights.metadata.step, "averaged": weights.averaged}
    if flags.json:
        print(json.dumps({**about, "data": settings.data.name, "split": split, **result}))
    else:
        print(f"{weights.source} (step {weights.metadata.step}{', averaged' * weights.averaged})")
        print(f"{settings.data.name} [{split}], {result['examples']:,.0f} images")
        for name, value in result.items():
            if name != "examples":
                print(f"  {name:<8} {value:.4f}" if name == "loss" else f"  {name:<8} {value:.2%}")
    return 0
