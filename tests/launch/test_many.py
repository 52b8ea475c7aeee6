"""Several launchers side by side."""

import os
import signal
import threading
import time

import pytest

from vit_jax.launch import many

JOB = """\
trap 'echo told; exit 42' TERM
echo begin >> "$LOG"
if [ "$3" = wait ]; then touch "$LOG.waits"; while :; do sleep 0.05; done; fi
sleep 0.2
echo end >> "$LOG"
exit "$3"
"""


@pytest.fixture
def log(programs, tmp_path, monkeypatch):
    """A stand-in for `python -m vit_jax <status>`; what it notes."""
    monkeypatch.setattr(many.sys, "executable", str(programs.add("python", JOB)))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_each_runs_once_and_no_more_than_so_many_at_a_time(log, capfd):
    assert many.run_all({"a": ["0"], "b": ["3"], "c": ["0"]}, at_once=1) == {"a": 0, "b": 3, "c": 0}
    assert log.read_text().split() == ["begin", "end"] * 3
    assert "b ended with" in capfd.readouterr().err


def test_a_signal_reaches_those_that_run_and_keeps_the_others_from_starting(log):
    def stop():
        deadline = time.monotonic() + 60
        while not log.with_name("log.waits").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop)
    thread.start()
    assert many.run_all({"a": ["wait"], "b": ["0"]}, at_once=1) == {"a": 42, "b": 42}
    thread.join()
    assert log.read_text().split() == ["begin"]
    assert signal.getsignal(signal.SIGTERM) is before
