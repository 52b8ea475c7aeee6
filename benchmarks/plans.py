"""Plans of runs that people would make, and of published ones, as `vit_jax plan --json` gives them.

    .venv-plan/bin/python benchmarks/plans.py                # all; repeats come from the cache
    .venv-plan/bin/python benchmarks/plans.py H14 search     # those with this in their name

Writes benchmarks/results/plan_<name>.json. Needs libtpu: make .venv-plan/.installed-plan.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PRETRAIN, DEIT = "configs/pretrain.py", "configs/deit3.py"
NONE = "--config.model.remat=none"
PLANS = {
    "L16_v5e_4x4_without_remat": (f"{PRETRAIN}:L/16,jft", "v5e:4x4", NONE),
    "search_L16_v5e_4x4": (f"{PRETRAIN}:L/16,jft", "v5e:4x4", "--search", "--budget=10", "--workers=1"),
    "H14_v5e_16x16": (f"{PRETRAIN}:H/14,jft", "v5e:16x16"),
    "g14_v5e_16x16": ("configs/vit_g.py:g/14", "v5e:16x16"),
    "L16_v3_32": (f"{PRETRAIN}:L/16,imagenet21k", "v3-32", "--config.train.micro_batches=4"),
    "L16_v4_32": (f"{PRETRAIN}:L/16,imagenet21k", "v4-32", "--config.train.micro_batches=2"),
    "22B_v5p_2048": ("configs/vit_g.py:22B/14", "v5p-2048"),
    "L16_2_slices": (f"{PRETRAIN}:L/16,jft", "v5e:16x16", "--num_slices=2", "--config.train.batch_size=8192"),
    "L16_v5e_16x16": (f"{PRETRAIN}:L/16,jft", "v5e:16x16"),
    "L16_v5e_16x16_fsdp_64": (f"{PRETRAIN}:L/16,jft", "v5e:16x16", "--config.mesh.fsdp=64"),
    "L16_v5e_16x16_fsdp_256": (f"{PRETRAIN}:L/16,jft", "v5e:16x16", "--config.mesh.fsdp=256"),
    "R152x2_v3_256": (f"{PRETRAIN}:R152x2,jft", "v3-256"),
    "R50+L16_v3_256": (f"{PRETRAIN}:R50+L/16,jft,epochs=14", "v3-256"),
    # Runs whose time was published: docs/plan.md sets both side by side.
    "published_L16_v3_256": (f"{PRETRAIN}:L/16,jft,epochs=14", "v3-256", NONE),
    "published_H14_v3_512": (f"{PRETRAIN}:H/14,jft", "v3-512"),
    "published_deit3_S16_v4_64": (f"{DEIT}:S/16,imagenet2012", "v4-64"),
    "published_deit3_B16_v4_64": (f"{DEIT}:B/16,imagenet2012", "v4-64"),
    "published_deit3_L16_v4_64": (f"{DEIT}:L/16,imagenet2012", "v4-64"),
    "published_deit3_H14_v4_64": (f"{DEIT}:H/14,imagenet2012", "v4-64"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PART", help=f"of a name, of {', '.join(PLANS)} (default: all)")
    wanted = parser.parse_args().names or [""]
    for part in wanted:
        if not any(part in name for name in PLANS):
            parser.error(f"{part}: no plan has this in its name; there are {', '.join(PLANS)}")
    for name, (config, topology, *flags) in PLANS.items():
        if not any(part in name for part in wanted):
            continue
        arguments = [f"--config={config}", f"--topology={topology}", *flags]
        command = [sys.executable, "-m", "vit_jax", "plan", *arguments, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        packages = ("jax", "jaxlib", "libtpu")
        about = {
            "command": "vit_jax plan " + " ".join(arguments),
            "versions": {package: importlib.metadata.version(package) for package in packages},
        }
        found = {**about, **(_ranking(found) if "candidates" in found else found)}
        (RESULTS / f"plan_{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(name, flush=True)


def _ranking(found: dict) -> dict:
    """A search without every candidate's whole plan."""
    return {**found, "candidates": [_short(candidate) for candidate in found["candidates"]]}


def _short(candidate: dict) -> dict:
    plan = candidate["estimate"]
    compiled = plan["compiled"] if plan else {}
    memory, step = compiled.get("memory"), plan["step"] if plan else None
    return {
        "settings": candidate["settings"],
        "note": candidate["note"],
        "memory": memory["total"] if memory else None,
        "too_large": compiled.get("too_large"),
        "step": step,
        "compile_seconds": compiled.get("seconds"),
        "compiler_memory": compiled.get("compiler_memory"),
    }


if __name__ == "__main__":
    main()
