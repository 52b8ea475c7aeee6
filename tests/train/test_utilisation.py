"""The use of the hardware: figures that follow from the step and the device table, and where they are written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import parallel
from vit_jax.models import Model, ModelSettings, forward_flops
from vit_jax.parallel import MeshSettings, chip_of, make_mesh
from vit_jax.train import METRICS_FILE, Reporter, read_metrics, train
from vit_jax.train.utilisation import Utilisation, utilisation

MODEL = Model(ModelSettings("mu/8"), image_size=(16, 16), channels=3, classes=10)


def test_shares_are_of_the_peaks():
    found = Utilisation("x", flops=4e12, peak_flops=100e12, bytes=1e9, peak_bytes=1e12).shares(0.1)
    assert found == {"mfu": pytest.approx(0.4), "memory_bandwidth": pytest.approx(0.01)}


@pytest.fixture
def as_v3(monkeypatch):
    """The devices of this machine pass for those of a TPU v3, which shows two devices a chip."""
    chip = chip_of("TPU v3")
    monkeypatch.setattr(parallel, "chip_of", lambda kind: chip)
    return chip


def test_devices_share_the_step_and_the_chip(as_v3):
    program = jax.jit(lambda x: x + 1).lower(jnp.zeros(1000, jnp.float32)).compile()
    found = utilisation(program, MODEL, 64, make_mesh(MeshSettings()))
    assert found.flops * jax.device_count() == 3 * 64 * forward_flops(MODEL)
    assert found.peak_flops * 2 == as_v3.flops
    assert found.peak_bytes * 2 == as_v3.bandwidth
    assert found.bytes == 2 * 4000  # read once, written once


def test_devices_that_nobody_knows_have_no_figures():
    assert utilisation(None, MODEL, 64, make_mesh(MeshSettings())) is None


def test_records_and_lines_show_them(as_v3, tiny_run, tmp_path, capsys):

    train(tiny_run(), tmp_path / "w", reporter=Reporter())
    records = [record for record in read_metrics(tmp_path / "w" / METRICS_FILE) if "mfu" in record]
    assert records
    assert all(0 < record["mfu"] < 1 and record["memory_bandwidth"] > 0 for record in records)
    ratio = [r["mfu"] / r["images_per_second"] for r in records]
    np.testing.assert_allclose(ratio, ratio[0])
    assert "MFU" in capsys.readouterr().err
