"""`vit_jax plan`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_jax.cli import arguments

if TYPE_CHECKING:
    from vit_jax.scaling.planning import Candidate, Request
    from vit_jax.train import DataFacts, RunSettings

DESCRIPTION = """\
Compiles the train step of a config for accelerators that need not be here, and says whether it fits, how long a step
and the whole run take at least, and what bounds them. No data is needed either, where the catalog knows it.

  vit_jax plan --config=configs/pretrain.py:L/16,imagenet21k --topology=v5e:16x16
  vit_jax plan --config=configs/pretrain.py:H/14,jft --topology=v5litepod-256 --num_slices=2 --json
  vit_jax plan --config=configs/vit_g.py:g/14 --topology=v5e:16x16 --search

topologies: v3, v5e, v6e:<side>x<side>; v4, v5p, tpu7x:<side>x<side>x<side>, in chips; names such as v5litepod-256,
v6e-256 (chips), v3-32, v4-64, v5p-128, tpu7x-128 (cores); gpu:<n> for GPUs that are here; cpu:<n> for fake devices.
TPUs need libtpu, not a TPU: pip install '.[tpu]'. docs/plan.md explains the numbers."""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("plan", DESCRIPTION, arguments.CONFIG_HELP)
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a config file, and what it accepts")
    parser.add_argument("--topology", required=True, help="the accelerators, see above")
    parser.add_argument("--num_slices", type=int, default=1, help="so many slices of that topology (default: 1)")
    parser.add_argument("--classes", type=int, help="of the data, where the catalog does not say or says otherwise")
    parser.add_argument("--examples", type=int, help="to train on, likewise")
    parser.add_argument("--search", action="store_true", help="compile meshes, remat and micro-batches, and rank them")
    parser.add_argument("--budget", type=float, default=15.0, help="minutes that --search may take (default: 15)")
    parser.add_argument("--workers", type=int, default=2, help="compilers that --search runs at a time (default: 2)")
    parser.add_argument("--hlo", metavar="FILE", help="also write the compiled program")
    parser.add_argument("--no_cache", action="store_true", help="compile even what was compiled before")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    flags, overrides = arguments.parse(parser, argv)
    _check(parser, flags)

    import jax

    from vit_jax.config_files import load_settings
    from vit_jax.parallel import parse_topology
    from vit_jax.scaling.planning import Request
    from vit_jax.train import RunSettings

    # This process looks at shapes only; compilers have their own. It must not claim an accelerator that is here.
    jax.config.update("jax_platforms", "cpu")
    topology = parse_topology(flags.topology, flags.num_slices)
    settings = load_settings(RunSettings, flags.config, overrides)
    facts = _facts(settings, flags)
    request = Request(settings, facts, dataclasses.asdict(topology))
    if flags.search:
        if topology.platform != "tpu":
            parser.error("--search is for TPUs, whose memory and speed are known")
        return _search(request, flags)
    return _plan(request, flags)


def _check(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    for name in ("classes", "examples", "budget", "workers"):
        value = getattr(flags, name)
        if value is not None and value <= 0:
            parser.error(f"--{name}={value}: must be more than 0")
    if flags.search and (flags.hlo or flags.no_cache):
        parser.error("--hlo and --no_cache are of one plan: leave out --search")


def _facts(settings: "RunSettings", flags: argparse.Namespace) -> "DataFacts":
    """What is known of the data: from flags, from the catalog, or from the data itself."""
    from vit_jax.errors import UserError
    from vit_jax.train import DataFacts, facts_of, known_facts, open_split

    known = known_facts(settings)
    if known is None and not (flags.classes and flags.examples):
        try:
            known = facts_of(open_split(settings, settings.data.train_split, "config.data.train_split"))
        except UserError as error:
            raise UserError(f"what it trains on is not known: give --classes and --examples ({error})") from None
    known = known or DataFacts(flags.examples, flags.classes)
    return dataclasses.replace(known, classes=flags.classes or known.classes, examples=flags.examples or known.examples)


def _plan(request: "Request", flags: argparse.Namespace) -> int:
    from vit_jax.scaling.planning import compile_apart, estimate, report

    file = Path(flags.hlo) if flags.hlo else None
    compiled = compile_apart(request, cached=not flags.no_cache, text_file=file)
    found = estimate(request, compiled)
    if flags.json:
        print(json.dumps({**_about(request, flags), **dataclasses.asdict(found)}))
    else:
        print("\n".join([_data(request), *report(request, found)]))
    return 0


def _search(request: "Request", flags: argparse.Namespace) -> int:
    from vit_jax.scaling.planning import report, search, table

    def told(candidate: "Candidate") -> None:
        print(table([candidate])[-1].strip(), file=sys.stderr, flush=True)

    found = search(request, budget=flags.budget * 60, workers=flags.workers, told=told)
    best = found[0]
    fits = best.estimate is not None and best.estimate.step is not None
    if flags.json:
        rows = [_candidate(candidate) for candidate in found]
        print(json.dumps({**_about(request, flags), "fits": fits, "candidates": rows}))
        return 0
    print("\n".join(table(found)))
    if best.estimate is not None and fits:
        chosen = " ".join(f"--{name}={value}" for name, value in best.flags.items())
        lines = report(dataclasses.replace(request, settings=best.settings), best.estimate)
        print("\n".join(["", f"best        {chosen}", _data(request), *lines]))
    else:
        print("\nnone of these fits: take more chips")
    return 0


def _candidate(candidate: "Candidate") -> dict[str, Any]:
    found = dataclasses.asdict(candidate.estimate) if candidate.estimate else None
    return {"settings": candidate.flags, "note": candidate.note, "estimate": found}


def _about(request: "Request", flags: argparse.Namespace) -> dict[str, Any]:
    return {"config": flags.config, "data": dataclasses.asdict(request.facts)}


def _data(request: "Request") -> str:
    about, facts = request.settings.data, request.facts
    size = "x".join(map(str, about.height_width))
    return f"data        {about.task or about.name}: {facts.examples:,} images, {size} px, {facts.classes:,} classes"
