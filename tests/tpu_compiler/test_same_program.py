"""A plan compiles the very program that a run runs. On fake CPU devices: no libtpu, but half a minute of processor."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.end_to_end.runs import REPOSITORY

pytestmark = pytest.mark.tpu_compiler

RUNS = {
    "data parallel": ["--config.train.ema_decay=0.9", "--config.model.dropout=0.1"],
    "mixed": ["mesh.fsdp=2", "mesh.tensor=2", "train.micro_batches=2", "train.mixup=0.2"],
}
RUNS["mixed"] = [f"--config.{change}" for change in RUNS["mixed"]]
SYNTHETIC = [
    "--config=configs/digits.py",
    "--config.data.name=synthetic",
    "--config.model.variant=mu/2",
    "--config.train.batch_size=16",
    "--config.train.duration=2 steps",
    "--config.evaluate.split=",
    "--config.log.tensorboard=False",
]


@pytest.mark.parametrize("run", RUNS)
def test_a_plan_is_the_program_of_the_run(run, tmp_path):
    """What `train` compiled, as XLA dumps it, and what the plan compiled: the same text, line by line."""
    common, flags = [*SYNTHETIC, *RUNS[run]], "--xla_backend_optimization_level=0"
    dump = f"{flags} --xla_dump_to={tmp_path / 'dump'} --xla_dump_hlo_module_re=jit_step"
    _vit_jax(["train", *common, f"--workdir={tmp_path / 'w'}"], dump)
    text = tmp_path / "plan.txt"
    found = json.loads(_vit_jax(["plan", *common, "--topology=cpu:8", f"--hlo={text}", "--json"], flags))
    assert found["compiled"]["mesh"]["data"] == (8 if run == "data parallel" else 2)
    (real,) = (tmp_path / "dump").glob("*.jit_step.cpu_after_optimizations.txt")
    assert _instructions(text) == _instructions(real)


def _vit_jax(arguments, flags):
    """Runs a verb on eight fake devices; what it prints."""
    more = {"XLA_FLAGS": flags, "JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    command, environment = [sys.executable, "-m", "vit_jax", *arguments], {**os.environ, **more}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _instructions(path):
    """Every line of a compiled program's computations, without where in our source it comes from."""
    lines = re.sub(r", metadata=\{[^}]*\}", "", path.read_text()).splitlines()
    wanted = (line for line in lines if re.match(r"\s+(ROOT )?%?[\w.\-]+ = |(ENTRY )?%?[\w.\-]+ \(", line))
    return [re.sub(r"(?<=backend_config=)\{.*\}", _sorted_keys, line) for line in wanted]


def _sorted_keys(found):
    return json.dumps(json.loads(found[0]), sort_keys=True)
