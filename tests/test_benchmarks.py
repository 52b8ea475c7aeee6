"""The cases of `benchmarks/` run from beginning to end, small and without peers; what they find is not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = ["--model=mu/2", "--image_size=8", "--rounds=1"]


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
    command = [sys.executable, str(BENCHMARKS / f"{case}.py"), f"--output={tmp_path / 'x.json'}", *flags]
    done = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["versions"]["jax"]
    assert record[found]
