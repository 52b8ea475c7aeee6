"""Arrays kept on disk: whole or not at all, whatever happens while they are written."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vit_jax.data.cache import cache_dir, cached, digest, held_bytes

VALUES = np.arange(1000) ** 2


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pieces():
    for start in (700, 0, 300):  # in any order
        yield start, VALUES[start : {700: 1000, 0: 300, 300: 700}[start]]


def never():
    raise AssertionError("computed again")


def test_an_array_is_computed_once_and_mapped(folder):
    assert np.array_equal(cached("a", 1000, pieces), VALUES)
    again = cached("a", 1000, never)
    assert np.array_equal(again, VALUES)
    assert held_bytes(again) == 0
    assert [f.name for f in folder.iterdir()] == ["a.i64"]


def test_names_and_sizes_are_kept_apart(folder):
    cached("a", 1000, pieces)
    assert cached("b", 2, lambda: iter([(0, np.array([5, -6]))])).tolist() == [5, -6]
    assert cached("a", 2, lambda: iter([(0, np.array([7, 8]))])).tolist() == [7, 8]
    assert cached("none", 0, never).shape == (0,)


def test_what_fails_midway_leaves_nothing(folder):
    def fails():
        yield 0, VALUES[:300]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("a", 1000, fails)
    assert list(folder.iterdir()) == []
    assert np.array_equal(cached("a", 1000, pieces), VALUES)


def test_a_place_that_cannot_be_written_costs_memory_and_a_warning(folder, caplog):
    folder.write_text("a file where the folder should be")
    found = cached("a", 1000, pieces)
    assert np.array_equal(found, VALUES)
    assert held_bytes(found) == 8000
    assert "cannot be written" in caplog.text
    assert "set VIT_JAX_CACHE" in caplog.text


def test_threads_that_write_at_once_agree(folder):
    together = threading.Barrier(4)

    def slow():
        together.wait(timeout=30)  # all have started before any has finished
        yield from pieces()

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: cached("a", 1000, slow), range(4)):
            assert np.array_equal(found, VALUES)
    assert [f.name for f in folder.iterdir()] == ["a.i64"]


def test_processes_that_write_at_once_agree(folder):
    script = """
import numpy as np
from vit_jax.data.cache import cached
for n in range(50):
    found = cached(f"a{n}", 1000, lambda: iter([(500, np.arange(500, 1000)), (0, np.arange(500))]))
    assert np.array_equal(found, np.arange(1000)), found
"""
    several = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(3)]
    for process in several:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(list(folder.iterdir())) == 50


def test_the_place_follows_the_environment(monkeypatch):
    monkeypatch.setenv("VIT_JAX_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/own")
    monkeypatch.delenv("VIT_JAX_CACHE")
    assert cache_dir() == Path("/xdg/vit_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path("/home/me/.cache/vit_jax")


def test_digests_tell_words_apart():
    assert digest("a", 1) == digest("a", 1)
    assert len({digest("a", 1), digest("a", "1"), digest("a1"), digest(["a", 1]), digest("a")}) == 5
