"""`vit_jax doctor`."""

import json

import pytest

from vit_jax.cli.doctor import _print
from vit_jax.doctor import Finding, storage


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(storage, "BYTES", 2**20)
    monkeypatch.setattr(storage, "SLOW", 0)


def test_all_is_well(call, tmp_path):
    status, out, _ = call("doctor", f"--workdir={tmp_path}", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["ok"]
    assert [each["check"] for each in found["findings"]] == ["versions", "devices", "memory", "collectives", "storage"]
    assert all(each["ok"] and each["process"] == 0 for each in found["findings"])


def test_something_to_fix_is_status_1(call, tmp_path):
    (tmp_path / "w").write_text("a file, not a folder")
    config = ["--config=configs/digits.py", "--config.data.name=folder", f"--config.data.data_dir={tmp_path}/none"]
    status, out, _ = call("doctor", f"--workdir={tmp_path}/w", *config)
    assert status == 1
    assert f"FIX  storage        failed\n                    {tmp_path}/w cannot be written" in out
    assert "FIX  input          failed\n                    config.data.data_dir" in out
    assert out.endswith("\n2 to fix\n")


def test_of_many_processes_those_that_need_something_are_shown(capsys):
    _print(
        [Finding("memory", f"{i} GiB", "more" * (i == 2), process=i) for i in range(4)] + [Finding("clocks", "fine")]
    )
    assert capsys.readouterr().out.splitlines() == [
        "ok   memory         process 0: 0 GiB",
        "FIX  memory         process 2: 2 GiB",
        "                    more",
        "ok   clocks         fine",
        "",
        "1 to fix",
    ]


@pytest.mark.parametrize("flag", ["--images_per_second=5", "--config.seed=1"])
def test_flags_that_need_a_config_say_so(flag, call):
    assert call("doctor", flag).err.startswith("vit_jax doctor: --config.<key> and --images_per_second need --config")
