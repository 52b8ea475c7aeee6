"""`vit_jax doctor` on two real processes."""

import json

import pytest

from . import runs


@pytest.mark.long
def test_two_processes_are_looked_at_together(tmp_path):
    output = runs.run(["doctor", f"--workdir={tmp_path}/w", "--json"], processes=2, devices=2)
    found = json.loads(next(line for line in output.splitlines() if "findings" in line).removeprefix("[0] "))
    assert [(each["check"], each["process"]) for each in found["findings"]] == [
        *(
            (check, process)
            for check in ("versions", "devices", "memory", "collectives", "storage")
            for process in (0, 1)
        ),
        ("same versions", None),
        ("clocks", None),
    ]
    assert found["findings"][6]["numbers"]["devices"] == 4
    assert found["findings"][-1]["numbers"]["spread_seconds"] < 1  # it is one and the same clock
