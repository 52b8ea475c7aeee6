"""One holder at a time, whoever dies; processes of this host are real, those of others are written."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from vit_jax.folder_lock import STALE_SECONDS, FolderLock, Holder, lock_holder

HOLD = """
import sys, time
from pathlib import Path
from vit_jax.folder_lock import FolderLock
print(FolderLock(Path(sys.argv[1])).acquire(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A process that tried to take the lock of `tmp_path`: (process, whether it got it)."""
    processes = []

    def start():
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, process.stdout.readline().strip() == "True"

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def write_lock(folder, host, age):
    path = folder / "lock"
    path.write_text(json.dumps({"host": host, "pid": 7}))
    os.utime(path, (time.time() - age,) * 2)


def test_one_holder_at_a_time(tmp_path):
    one, two = FolderLock(tmp_path / "new"), FolderLock(tmp_path / "new")
    assert one.acquire()
    assert not two.acquire()
    assert lock_holder(tmp_path / "new") == Holder(socket.gethostname(), os.getpid())
    one.release()
    assert lock_holder(tmp_path / "new") is None
    assert two.acquire()
    two.release()
    two.release()


def test_another_process_holds_it_until_it_is_killed(tmp_path, other):
    process, got = other()
    assert got
    assert not FolderLock(tmp_path).acquire()
    assert lock_holder(tmp_path) == Holder(socket.gethostname(), process.pid)
    assert str(lock_holder(tmp_path)) == f"process {process.pid} on {socket.gethostname()}"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((tmp_path / "lock").read_text())["pid"] == process.pid  # it had no time to clean up
    assert lock_holder(tmp_path) is None
    mine = FolderLock(tmp_path)
    assert mine.acquire()
    assert not other()[1]
    mine.release()


@pytest.mark.parametrize(("age", "held"), [(0, True), (STALE_SECONDS - 60, True), (STALE_SECONDS + 60, False)])
def test_a_holder_on_another_host_counts_while_it_renews(age, held, tmp_path):
    write_lock(tmp_path, "another", age)
    assert lock_holder(tmp_path) == (Holder("another", 7) if held else None)
    lock = FolderLock(tmp_path)
    assert lock.acquire() != held
    lock.release()


def test_the_dead_holder_of_this_host_is_known_at_once(tmp_path):
    write_lock(tmp_path, socket.gethostname(), 0)
    assert lock_holder(tmp_path) is None
    lock = FolderLock(tmp_path)
    assert lock.acquire()
    lock.release()


def test_a_holder_renews_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("vit_jax.folder_lock.RENEW_SECONDS", 0.01)
    with FolderLock(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        deadline = time.monotonic() + 30
        while (tmp_path / "lock").stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "h"}'])
def test_a_file_that_says_nothing_is_no_holder(content, tmp_path):
    (tmp_path / "lock").write_text(content)
    assert lock_holder(tmp_path) is None


def test_waiting_ends_when_the_lock_is_given_back(tmp_path, other):
    process, _ = other()
    process.kill()
    with FolderLock(tmp_path):
        assert lock_holder(tmp_path).pid == os.getpid()


def test_a_folder_that_is_not_there_is_held_by_nobody(tmp_path):
    assert lock_holder(tmp_path / "none") is None
