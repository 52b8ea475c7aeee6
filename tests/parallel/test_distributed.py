"""When the environment says that this is one process of several."""

import jax
import pytest

from vit_jax import parallel
from vit_jax.errors import UserError


@pytest.fixture
def initialized(monkeypatch):
    """What `jax.distributed.initialize` was called with, besides the heartbeat."""
    calls = []

    def initialize(heartbeat_timeout_seconds, **options):
        heartbeats.append(heartbeat_timeout_seconds)
        calls.append(options)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    yield calls
    heartbeats.clear()


heartbeats: list[int] = []


OURS = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"}


def test_our_launcher_says_everything(initialized):
    assert parallel.start("auto", OURS)
    assert initialized == [{"coordinator_address": "127.0.0.1:1", "num_processes": 3, "process_id": 2}]


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"TPU_PROCESS_ADDRESSES": "a:1,b:1"},
        {"MEGASCALE_NUM_SLICES": "2"},
    ],
    ids=lambda e: next(iter(e)),
)
def test_clusters_are_left_to_jax(environment, initialized):
    assert parallel.start("auto", environment)
    assert initialized == [{}]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"},  # a shell inside an allocation, not a step
        {"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"},
    ],
    ids=str,
)
def test_one_process_stays_alone(environment, initialized):
    assert not parallel.start("auto", environment)
    assert initialized == []


def test_off_and_on_overrule_the_environment(initialized):
    assert not parallel.start("off", OURS)
    assert parallel.start("on", {})
    assert initialized == [{}]


def test_half_an_environment_is_an_error(initialized):
    with pytest.raises(UserError, match="JAX_PROCESS_ID is set but JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES"):
        parallel.start("auto", {"JAX_PROCESS_ID": "0"})
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES = 'two'"):
        parallel.start("auto", {**OURS, "JAX_NUM_PROCESSES": "two"})


def test_one_task_of_a_node_takes_all_its_gpus(initialized):
    slurm = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2", "SLURM_GPUS_ON_NODE": "8"}
    assert parallel.start("auto", {**slurm, "SLURM_STEP_TASKS_PER_NODE": "1(x2)"})
    assert parallel.start("auto", {**slurm, "SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_NTASKS": "16"})
    assert [list(call.get("local_device_ids", [])) for call in initialized] == [list(range(8)), []]


def test_a_launcher_may_say_what_auto_means(initialized):
    assert parallel.start("auto", {"VIT_JAX_DISTRIBUTED": "on"})
    assert not parallel.start("off", {"VIT_JAX_DISTRIBUTED": "on"})
    assert not parallel.start("auto", {**OURS, "VIT_JAX_DISTRIBUTED": "off"})
    with pytest.raises(UserError, match="VIT_JAX_DISTRIBUTED = 'yes': must be auto, on or off"):
        parallel.start("auto", {"VIT_JAX_DISTRIBUTED": "yes"})
    assert initialized == [{}]


def test_a_silent_process_is_given_up_within_a_minute(initialized):
    parallel.start("auto", OURS)
    parallel.start("auto", OURS, heartbeat_seconds=7)
    assert heartbeats == [30, 7]
    with pytest.raises(UserError, match="--heartbeat_seconds = 0: must be at least 1"):
        parallel.start("auto", OURS, heartbeat_seconds=0)
