"""Every check names what is wrong and how to put it right; a check that fails is a finding as well."""

import types
from importlib import metadata

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax import parallel
from vit_jax.doctor import Subject, clocks, collectives, devices, examination, examine, storage
from vit_jax.doctor.clocks import compare_clocks
from vit_jax.doctor.findings import Finding, attempt
from vit_jax.doctor.input import look_at_input
from vit_jax.doctor.storage import look_at_storage
from vit_jax.doctor.versions import compare_versions, look_at_versions
from vit_jax.errors import UserError

GIB = 2**30


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(storage, "BYTES", 2**20)
    monkeypatch.setattr(storage, "SLOW", 0)
    monkeypatch.setattr(storage, "_TIGHT", 0)
    monkeypatch.setattr(devices, "_TIGHT", 0)


def test_everything_is_looked_at_and_is_well_here(tmp_path, tiny_run):
    findings = examine(Subject(tmp_path / "w", tiny_run()))
    assert [f.check for f in findings] == ["versions", "devices", "memory", "collectives", "storage", "input"]
    assert [f.fix for f in findings] == [""] * 6
    assert findings[1].numbers["all"] == jax.device_count() == 8
    assert not (tmp_path / "w").exists()


def test_an_error_is_a_finding():
    def wrong(error):
        def look():
            raise error

        return attempt("storage", look)

    assert wrong(UserError("config.data.name = 'x': is not there")).fix == "config.data.name = 'x': is not there"
    assert "ValueError: no" in wrong(ValueError("no")).fix


def test_versions_out_of_range_are_named(monkeypatch):
    declared = ["jax>=99", "numpy>=1", "no-such-thing>=1", 'torch>=2; extra == "x"', 'other>=1; python_version < "3"']
    monkeypatch.setattr(metadata, "requires", lambda name: declared)
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.99"})
    found = look_at_versions()
    assert found.fix.startswith(f"Python {found.numbers['python']} (supported: >=3.99); jax {jax.__version__} ")
    assert "(supported: >=99); no-such-thing is missing: pip install" in found.fix
    for name in ("torch", "other", "numpy"):
        assert name not in found.fix


def test_jaxlib_must_belong_to_jax(monkeypatch):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1.0" if name == "jaxlib" else version(name))
    assert look_at_versions().fix.startswith(f"jaxlib 0.1.0 with jax {jax.__version__}: ")


def test_processes_with_other_versions_are_named():
    of = [Finding("versions", "", numbers={"jax": jax, "b": "1"}, process=i) for i, jax in enumerate("112")]
    assert compare_versions(of[:1]) == []
    assert compare_versions(of[:2])[0].ok
    assert compare_versions(of)[0].fix == "process 0 has jax 1, process 2 has jax 2: install the same on every host"


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=6),
    st.lists(st.lists(st.floats(0, 0.2), min_size=6, max_size=6), min_size=1, max_size=5),
)
def test_skew_is_found_up_to_the_time_it_takes_to_leave_a_barrier(offsets, delays):
    times = [
        [1e6 + 7 * number + offset + late[process] for number, late in enumerate(delays)]
        for process, offset in enumerate([0.0, *offsets][:6])
    ]
    found = compare_clocks(times)
    wanted = [0.0, *offsets][:6]
    np.testing.assert_allclose(found.numbers["skew_seconds"], wanted, atol=0.2001)
    spread = max(wanted) - min(wanted)
    if abs(spread - clocks.LARGEST) > 0.5:
        assert found.ok == (spread < clocks.LARGEST)


def test_the_process_whose_clock_is_off_is_named():
    fix = compare_clocks([[100.0, 200.0], [100.1, 200.1], [95.0, 195.0]]).fix
    assert fix.startswith("the clock of process 2 is -5.0 s off that of process 0")


def test_sums_that_are_wrong_name_the_device(monkeypatch):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
    whole = jax.device_put(np.ones(3), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    assert collectives._wrong("the sum", whole, np.ones(1)) == ""
    assert "the sum over all devices is wrong on " in collectives._wrong("the sum", whole, np.zeros(1))


def test_an_accelerator_that_jax_does_not_use_is_named(monkeypatch):
    monkeypatch.setattr(devices.glob, "glob", lambda pattern: ["/dev/nvidia0"] if "nvidia" in pattern else [])
    assert devices.look_at_devices().ok  # JAX_PLATFORMS=cpu: as asked for
    monkeypatch.delenv("JAX_PLATFORMS")
    assert devices.look_at_devices().fix.endswith("1 NVIDIA GPU(s), which JAX does not use: pip install '.[gpu]'")


def test_a_device_with_less_memory_than_others_is_named(monkeypatch):
    def device(used):
        return types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 16 * GIB, "bytes_in_use": used * GIB})

    monkeypatch.setattr(jax, "local_devices", lambda: [device(0), device(0.5)])
    found = devices.look_at_memory()
    assert (found.fix, found.numbers["device_available_bytes"]) == ("", [16 * GIB, 15.5 * GIB])
    monkeypatch.setattr(jax, "local_devices", lambda: [device(0), device(9)])
    assert devices.look_at_memory().fix == "device 1 has 7.0 GiB, another 16.0: end the program that uses it"


def test_storage_leaves_nothing_and_touches_nothing(tmp_path):
    (tmp_path / "mine").write_text("x")
    found = look_at_storage(tmp_path)
    assert found.ok
    assert found.numbers["write_bytes_per_second"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "w").write_text("a file")
    assert look_at_storage(tmp_path / "w").fix == f"{tmp_path}/w cannot be written and read: Not a directory"


def test_hosts_that_do_not_share_the_folder_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "process_count", lambda: 2)
    assert "does not show what process 1 wrote there" in look_at_storage(tmp_path).fix


@pytest.mark.parametrize(("limit", "complaint"), [("SLOW", "is slow"), ("_TIGHT", "has little room")])
def test_slow_and_full_disks_are_named(limit, complaint, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, limit, float("inf"))
    assert complaint in look_at_storage(tmp_path).fix


def test_bytes_that_come_back_changed_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_write", lambda path, data: float(path.write_bytes(data[1:] + data[:1])))
    assert "gives back other bytes" in look_at_storage(tmp_path).fix


def test_input_that_is_too_slow_is_said(tiny_run):
    assert look_at_input(tiny_run(), 0).ok
    found = look_at_input(tiny_run(), 1e12)
    assert found.fix.startswith("1,000,000,000,000 images/s are needed on each host")
    assert 0 < found.numbers["images_per_second"] < 1e12


def test_collectives_that_hang_end_the_process(monkeypatch, capsys):
    ended = []
    monkeypatch.setattr(examination.os, "_exit", ended.append)
    with examination._within(0.01, "collectives"):
        while not ended:
            pass
    assert ended == [1]
    assert "collectives did not finish in 0 s on process 0: some host does not take part" in capsys.readouterr().err
