"""From a step to a run, and to words."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.scaling.plans import GIB, MOVED, compiled, request, too_large
from vit_jax.config_files import load_settings
from vit_jax.data import SyntheticDataset, preview
from vit_jax.scaling.planning import Compiled, estimate, report
from vit_jax.scaling.planning.estimate import IMAGES_PER_CPU_SECOND, host_memory
from vit_jax.train import RunSettings, known_facts


def test_a_run_is_its_steps():
    """0.1 s a step, a million steps, 16 chips of one core, 4 hosts."""
    found = estimate(request(), compiled())
    assert found.run.images_per_second == pytest.approx(40_960)
    assert found.run.days == pytest.approx(100_000 / 86_400)
    assert found.run.chip_days == found.run.core_days == pytest.approx(16 * found.run.days)
    assert found.run.utilization == pytest.approx(0.5)
    assert found.run.exaflops == pytest.approx(16 * 197e12 / 20 * 1e6 / 1e18)
    assert found.run.published_core_days is None
    assert found.hosts.images_per_second == pytest.approx(10_240)
    assert found.hosts.decode_cores == pytest.approx(10_240 / IMAGES_PER_CPU_SECOND)


def test_cores_are_not_chips():
    found = estimate(request("v4:2x2x4"), compiled(kind="TPU v4"))
    assert found.run.core_days == pytest.approx(2 * found.run.chip_days)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        ("configs/pretrain.py:H/14,jft", 2500),
        ("configs/pretrain.py:L/16,jft,epochs=14", 680),
        ("configs/pretrain.py:L/16,jft", None),
        ("configs/pretrain.py:L/16,imagenet21k", 230),
        ("configs/pretrain.py:B/16,jft", None),
    ],
)
def test_rows_of_the_paper_s_table_2_are_set_beside(config, published):
    settings = load_settings(RunSettings, config)
    facts = known_facts(settings)
    asked = dataclasses.replace(request("v3:4x4"), settings=settings, facts=facts)
    epochs = int(settings.train.duration.split()[0])
    steps = round(epochs * facts.examples / settings.train.batch_size)
    found = estimate(asked, compiled(kind="TPU v3", steps=steps))
    assert found.run.published_core_days == published
    assert ("table 2" in "\n".join(report(asked, found))) == (published is not None)


def test_decoding_is_as_fast_as_was_measured():
    measured = json.loads((Path(__file__).parents[3] / "benchmarks/results/input_pipeline.json").read_text())
    assert round(measured["median"]["ours, TFRecord"]) == IMAGES_PER_CPU_SECOND


def test_host_memory_is_that_of_the_pipelines_and_of_a_checkpoint():
    asked = request()
    settings = asked.settings
    pipelines = preview.memory_plan(settings.data, {"train": SyntheticDataset(settings.data)}, {"train": 1024}, 4)
    found = host_memory(asked, compiled())
    assert {name: found[name] for name in pipelines} == pipelines
    assert found["a checkpoint on its way to the disk"] == 3 * GIB // 4
    assert sum(found.values()) > sum(pipelines.values()) * 2  # evaluation has its own


def test_an_answer_survives_json():
    for answer in (compiled(), too_large(20.0)):
        assert Compiled.from_dict(json.loads(json.dumps(dataclasses.asdict(answer)))) == answer


def test_a_plan_in_words():
    moved = dataclasses.replace(MOVED, network=5e6, unknown_loops=2)
    asked = request(slices=2, train={"micro_batches": 4})
    text = "\n".join(report(asked, estimate(asked, compiled(moved=moved, whole=("whole     heads: 3 do not",)))))
    for said in (
        "B/32, 268,435,456 parameters, float32, remat dots, batch 4,096 in 4 micro-batches",
        "32 v5e chips (2 x v5e:4x4), 4 hosts, as data 4 x fsdp 4",
        "whole       heads: 3 do not",
        "5.00 GiB on each device, of 15.75 GiB: it fits",
        "4.00 GiB  activations, gradients and other temporaries",
        "77.0 GFLOP an image, 100% more than three forward passes",
        "8.2 GB read from and written to memory",
        "9.0 MB sent in 24 all-gathers of 4 devices",
        "5.0 MB sent to other slices",
        "counted once: 2",
        "50.0 ms; at least 50.0 ms, bound by compute",
        "81,920 images/s (50% of peak): 13.89 hours",
        "1,000,000 steps",
        "of 112 CPUs",
    ):
        assert said in text, text


def test_what_does_not_fit_says_by_how_much_and_what_to_try():
    asked = request(model={"remat": "none"})
    found = estimate(asked, too_large(40.0))
    text = "\n".join(report(asked, found))
    assert (found.step, found.run, found.hosts) == (None, None, None)
    assert "does not fit: needs 40.00 GiB of the 16.00 GiB that a device has, 24.00 GiB too much" in text
    assert text.count("  try ") == len(found.advice) == 3


def test_a_device_that_no_table_has_gets_no_times():
    asked = request("cpu:8")
    found = estimate(asked, compiled(kind="cpu"))
    text = "\n".join(report(asked, found))
    assert found.step is None
    assert "it fits" not in text
    assert "8 cpu devices (cpu:8)" in text
    assert "all-gathers" in text
