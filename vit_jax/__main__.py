"""`vit_jax <verb>`, also as `python -m vit_jax <verb>`."""

import functools
import importlib
import sys
from collections.abc import Sequence

from vit_jax.errors import Diverged, Stopped, Unsaved, UserError, did_you_mean, out_of_memory

VERBS = {
    "train": "pre-train or fine-tune a model; the same command resumes",
    "plan": "compile a run for TPUs that are not here: does it fit, how long, what bounds it",
    "recipes": "the shipped recipes with their published results",
    "finetune-grid": "choose the learning rate on held-out images, train on all, test over seeds",
    "evaluate": "accuracy and loss of a checkpoint on a split or on other data sets, every example counted once",
    "fewshot": "few-shot, linear and nearest-neighbour tests of frozen features",
    "predict": "the most probable classes of image files",
    "inspect": "pictures of filters, position embeddings and attention on one page",
    "export": "write the weights in a published format",
    "models": "the named models: parameters, FLOPs, sequence length, published weights",
    "sweep": "many runs from one file: what they cost, then those that are missing, here or on a cluster",
    "report": "tables and pictures of a sweep: accuracy, compute, what a family of models saves",
    "prepare": "put a data set on the disk (the only command that may download)",
    "data": "what a config's pipeline yields: classes, pictures, speed, memory",
    "launch": "run a verb on many processes: this machine, SLURM, TPU slices, GKE",
    "doctor": "what a job stands on: versions, devices, network, storage, input; says what to fix",
    "demo": "the whole way on the embedded digits, in about two minutes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb and returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        from vit_jax import __version__

        print(__version__)
        return 0
    if argv[0] not in VERBS:
        print(f"vit_jax: unknown verb {argv[0]!r}; {did_you_mean(argv[0], VERBS)}", file=sys.stderr)
        return 2
    _hide_late_reads()
    try:
        return importlib.import_module(f"vit_jax.cli.{argv[0].replace('-', '_')}").main(argv[1:])
    except Exception as found:
        error = found if isinstance(found, (UserError, Diverged, Unsaved, Stopped)) else out_of_memory(found)
        if error is None:
            raise
        line = " ".join(str(error).split("\n"))
        print(f"vit_jax {argv[0]}: {line}", file=sys.stderr, flush=True)
        if error.alone:
            from vit_jax import parallel

            parallel.end_job(error.exit_code, line)  # a normal exit would wait minutes for processes that wait for us
        return error.exit_code


@functools.cache
def _hide_late_reads() -> None:
    """Drops what TensorStore's threads say when a damaged checkpoint was given up before they had read all of it."""
    report = sys.unraisablehook

    def hook(found: "sys.UnraisableHookArgs") -> None:
        if str(found.exc_value) != "Event loop is closed":
            report(found)

    sys.unraisablehook = hook


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        "usage: vit_jax <verb> [flags]\n\nScale vision models in JAX, from a laptop to a TPU pod.\n\n"
        f"{verbs}\n\nvit_jax <verb> --help says more; vit_jax demo is a good first command."
    )


if __name__ == "__main__":
    sys.exit(main())
