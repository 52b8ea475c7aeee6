"""Seconds from the command to its first finished step: with nothing compiled before, and with the programs kept.

    python benchmarks/startup.py
    python benchmarks/startup.py -- --config=configs/finetune.py:B/16,digits

Each round starts `vit_jax train` twice in a new workdir: with an empty folder for compiled programs, and with what the
first start left there. A start ends when its first step is reported. The limit beside them is the time of importing
what every run needs: jax, flax, optax, orbax and TensorFlow.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

IMPORTS = "import jax, flax.nnx, optax, orbax.checkpoint, tensorflow"


def first_step(arguments: list[str], workdir: Path, cache: Path) -> float:
    """Seconds until `step 1/` is printed; the run is then stopped."""
    command = [sys.executable, "-m", "vit_jax", "train", f"--workdir={workdir}", "--config.log.every=1", *arguments]
    variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    began, lines = time.perf_counter(), []
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            if re.match(r"step +1/", line):
                return time.perf_counter() - began
    finally:
        process.terminate()
        process.communicate()
    raise SystemExit(f"{' '.join(command)} took no step:\n{''.join(lines)}")


def imports() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", help="of `vit_jax train` (default: --config=configs/digits.py)")
    parser.add_argument("--rounds", type=harness.count, default=3)
    parser.add_argument("--output", help="JSON file (default: none)")
    flags = parser.parse_args()
    arguments = flags.arguments or ["--config=configs/digits.py"]
    found: dict[str, list[float]] = {"imports": [], "cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as place:
        for number in range(flags.rounds):
            found["imports"].append(imports())
            for kind in ("cold", "warm"):
                workdir, cache = Path(place) / f"{kind}{number}", Path(place) / f"programs{number}"
                found[kind].append(first_step(arguments, workdir, cache))
    print(f"\nvit_jax train {' '.join(arguments)}: seconds to the first finished step, {flags.rounds} rounds")
    for name, seconds in found.items():
        print(f"  {name:<8} {statistics.median(seconds):6.1f}  [{min(seconds):.1f} .. {max(seconds):.1f}]")
    harness.write(flags.output, {"arguments": arguments, "seconds": found})


if __name__ == "__main__":
    main()
