"""`vit_jax plan` with the real compiler for TPUs; no TPU is needed."""

import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys

import pytest

from tests.end_to_end.runs import REPOSITORY
from vit_jax import parallel
from vit_jax.__main__ import main
from vit_jax.config_files import load_settings
from vit_jax.errors import UserError
from vit_jax.parallel import CHIPS
from vit_jax.scaling.planning import Request, compile_apart, estimate
from vit_jax.settings import build
from vit_jax.train import DataFacts, RunSettings, known_facts

pytestmark = pytest.mark.tpu_compiler
GIB = 2**30
RESULTS = REPOSITORY / "benchmarks" / "results"


def tiny(topology, slices=1, **groups):
    """`mu/2` on synthetic images: seconds to compile."""
    config = {
        "model": {"variant": "mu/2", "depth": 3},
        "data": {"name": "synthetic", "image_size": (8, 8)},
        "train": {"batch_size": 4096, "duration": "100 steps"},
        "schedule": {"warmup": "10 steps"},
    }
    config = {**config, **{name: {**config.get(name, {}), **values} for name, values in groups.items()}}
    wanted = dataclasses.asdict(parallel.parse_topology(topology, slices))
    return Request(build(RunSettings, config), DataFacts(1000, 10), wanted)


def of_config(config, topology, *overrides):
    settings = load_settings(RunSettings, config, overrides)
    return Request(settings, known_facts(settings), dataclasses.asdict(parallel.parse_topology(topology)))


@pytest.mark.parametrize("topology", ["v3:4x4", "v4:2x2x4", "v5e:4x4", "v5p:2x2x4", "v6e:4x4", "tpu7x:2x2x2"])
def test_every_chip_has_a_compiler_and_the_memory_that_the_table_says(topology):
    """A batch that is far too large makes the compiler say how much memory there is."""
    fits = estimate(tiny(topology), compile_apart(tiny(topology), cached=False))
    chip = CHIPS[topology.partition(":")[0]]
    assert (fits.chip, fits.compiled.mesh["data"]) == (chip.name, parallel.parse_topology(topology).devices)
    assert fits.compiled.memory.total < GIB
    assert fits.step.compute > 0
    assert (fits.step.schedule > 0) == (chip.clock > 0)
    assert fits.compiled.moved.unknown_loops == 0
    large = tiny(topology, train={"batch_size": 2**27}, model={"remat": "none"})
    over = compile_apart(large, cached=False).too_large
    assert over.needed > over.available == pytest.approx(chip.device_memory, rel=1e-3)


def test_slices_send_gradients_over_the_network():
    one = compile_apart(tiny("v5e:2x4", mesh={"fsdp": 4}), cached=False)
    two = compile_apart(tiny("v5e:2x4", 2, mesh={"fsdp": 4}), cached=False)
    assert (one.moved.network, two.mesh["replica"], two.mesh["data"]) == (0, 2, 2)
    # Each chip sends its share of the gradients: between one number and four bytes for each of its parameters.
    assert one.parameters / 8 < two.moved.network < 4 * one.parameters


def test_several_compilers_run_at_once():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda t: compile_apart(tiny(t), cached=False), ["v5e:2x2", "v4:2x2x1"]))
    assert [answer.kind for answer in answers] == ["TPU v5 lite", "TPU v4"]


def test_options_are_those_of_the_compiler():
    request = tiny("v5e:2x2", compiler={"options": "xla_tpu_not_a_flag=1"})
    with pytest.raises(UserError, match="No such compile option: 'xla_tpu_not_a_flag'"):
        compile_apart(request, cached=False)


def test_a_shape_that_no_slice_has_is_one_line():
    with pytest.raises(UserError, match=r"v5e:3x5: the compiler for TPUs does not know this slice"):
        compile_apart(tiny("v5e:3x5"), cached=False)


def test_repeats_are_found_and_nothing_of_the_compiler_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path))
    before = dict(os.environ)
    command = ["plan", "--config=configs/digits.py", "--config.data.task=digits", "--topology=v5e-4", "--json"]
    answers = []
    for _ in range(2):
        assert main(command) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]  # with the seconds that the compiler took
    assert len(list((tmp_path / "plans").iterdir())) == 1
    assert dict(os.environ) == before


def test_planning_claims_no_accelerator():
    """Not even where the environment tells JAX to take one, which would fail here, or take it from a run."""
    command = [sys.executable, "-m", "vit_jax", "plan", "--config=configs/digits.py", "--config.data.task=digits"]
    command += ["--topology=v5e:2x2", "--search", "--budget=0.0001"]
    outside = {**os.environ, "JAX_PLATFORMS": "tpu"}
    done = subprocess.run(command, env=outside, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "none of these fits" in done.stdout


def test_l16_does_not_fit_sixteen_small_chips_unless_laid_out_as_the_search_found():
    """The search itself takes minutes: benchmarks/plans.py. Its best layout is compiled again here."""
    config, topology = "configs/pretrain.py:L/16,jft", "v5e:4x4"
    request = of_config(config, topology, "--config.model.remat=none")
    found = estimate(request, compile_apart(request, cached=False))
    assert found.compiled.too_large.available == pytest.approx(15.75 * GIB)
    assert found.compiled.too_large.needed > 3 * found.compiled.too_large.available
    assert found.advice
    best = json.loads((RESULTS / "plan_search_L16_v5e_4x4.json").read_text())["candidates"][0]
    request = of_config(config, topology, *(f"--{name}={value}" for name, value in best["settings"].items()))
    compiled = compile_apart(request, cached=False)
    assert compiled.memory.total < 15.75 * GIB
    assert compiled.memory.total == pytest.approx(best["memory"], rel=0.02)
