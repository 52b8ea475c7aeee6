"""The cases of `benchmarks/` run from beginning to end, small and without peers; what they find is not looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick_compile import QUICK_COMPILE

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = ["--model=mu/2", "--image_size=8", "--rounds=1"]


def run(case, *flags, devices=1):
    command = [sys.executable, str(BENCHMARKS / f"{case}.py"), *flags]
    variables = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": QUICK_COMPILE}
    return subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True, timeout=280, env=variables)


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "flags", "found"),
    [
        ("train_step", [*TINY, "--peers=", "--seconds=0.1", "--ours=", "--ours=model.scan=False"], "rows"),
        ("inference", [*TINY, "--peers=", "--seconds=0.1", "--dtype=bfloat16"], "rows"),
        ("checkpoint", [*TINY, "--batch_size=8", "--steps=2"], "median"),
        ("loop", [*TINY, "--batch_size=8", "--steps=80"], "turns"),
        ("startup", ["--rounds=1", "--", "--config=configs/digits.py", "--config.data.name=synthetic"], "seconds"),
    ],
)
def test_a_case_measures_and_keeps_it(case, flags, found, tmp_path):
    done = run(case, f"--output={tmp_path / 'x.json'}", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["versions"]["jax"]
    assert record[found]


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "flags", "words"),
    [
        ("train_step", ["--ours=scan"], "--ours=scan: write group.name=value for 'scan', as in model.scan=False"),
        ("train_step", ["--model=Q/16", "--peers="], "config.model.variant = 'Q/16': unknown encoder 'Q'"),
        ("inference", ["--peers=keras"], "--peers=keras: must be of timm_eager, timm_compile, transformers"),
        ("checkpoint", ["--batch_size=0"], "config.train.batch_size = 0: must be at least 1"),
        ("loop", ["--output=/proc/none/x.json"], "--output=/proc/none/x.json: its folder cannot be made"),
    ],
)
def test_what_cannot_be_measured_is_one_line(case, flags, words):
    done = run(case, *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(words)
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_peers_are_not_run_beside_ours_on_several_devices():
    done = run("inference", devices=2)
    assert done.returncode == 1
    assert "they run on one device, and ours would on 2" in done.stderr
