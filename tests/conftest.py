"""Every test runs on eight fake CPU devices, without a network, on data of its own."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.quick_compile import QUICK_COMPILE

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {QUICK_COMPILE}"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Many tests, and the processes they start, compile the same small programs: once is enough.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

os.environ["VIT_JAX_CACHE"] = str(Path(__file__).parents[1] / ".pytest_cache" / "data")

import hypothesis
import pytest

from vit_jax.settings import build
from vit_jax.train import RunSettings

# The first example compiles; how long that takes says nothing.
hypothesis.settings.register_profile("vit_jax", deadline=None)
hypothesis.settings.load_profile("vit_jax")

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting anywhere but to this machine fails the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data_dir that holds the embedded digits; needs TensorFlow."""
    pytest.importorskip("tensorflow")
    from vit_jax.data import prepare

    folder = tmp_path_factory.mktemp("tfds")
    prepare("digits", str(folder))
    return folder


@pytest.fixture
def tiny_run() -> Callable[..., RunSettings]:
    """Makes settings of a run of seconds: `mu/2` on synthetic 8x8 images, 6 steps of 16.

    Keyword arguments are groups: `tiny_run(train={"ema_decay": 0.9}, mesh={"fsdp": 2})`.
    """

    def make(**groups: Any) -> RunSettings:
        config: dict[str, Any] = {
            "model": {"variant": "mu/2"},
            "data": {"name": "synthetic", "image_size": (8, 8)},
            "train": {"batch_size": 16, "duration": "6 steps"},
            "schedule": {"warmup": "2 steps"},
            "checkpoint": {"every": "3 steps"},
            "evaluate": {"every": "3 steps", "batch_size": 128},
            "log": {"every": "1 step", "tensorboard": False},
        }
        for name, values in groups.items():
            config[name] = {**config.get(name, {}), **values} if isinstance(values, dict) else values
        return build(RunSettings, config)

    return make
