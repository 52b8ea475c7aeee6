"""What cannot be written ends a run or is said, as the config has it."""

import errno

import pytest

from vit_jax.errors import Unsaved
from vit_jax.train import Reporter
from vit_jax.train.tolerance import Tolerance

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(Reporter, "say", lambda _, line: lines.append(line))
    return lines


def attempt(tolerance, error=None):
    with tolerance.writing("metrics.jsonl"):
        if error:
            raise error


def test_it_stops(said):
    with pytest.raises(Unsaved, match=r"^metrics\.jsonl could not be written: No space left on device$"):
        attempt(Tolerance(True, Reporter()), FULL)
    assert not said


def test_it_goes_on_and_says_so_once_and_again_after_a_success(said):
    tolerance = Tolerance(False, Reporter())
    for error in (FULL, FULL, None, FULL):
        attempt(tolerance, error)
    line = "warning: metrics.jsonl could not be written: No space left on device; "
    assert said == [line + "going on (config.checkpoint.on_error=continue)"] * 2


def test_other_errors_are_bugs(said):
    with pytest.raises(ValueError, match="bug"):
        attempt(Tolerance(False, Reporter()), ValueError("bug"))
