"""Compilers in processes of their own: what they see, what they leave, and how they may end."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scaling.plans import compiled, request
from vit_jax.errors import UserError
from vit_jax.parallel import parse_topology
from vit_jax.scaling.planning import children, compile_apart
from vit_jax.scaling.planning.children import OutOfTime, environment


def test_a_compiler_for_tpus_claims_none():
    found = environment(parse_topology("v5e:4x4"), {"HOME": "/h", "JAX_PLATFORMS": "tpu"})
    assert found["HOME"] == "/h"
    assert found["JAX_PLATFORMS"] == "cpu"
    assert found["ALLOW_MULTIPLE_LIBTPU_LOAD"] == "1"


def test_fake_devices_are_as_many_as_asked_for():
    outside = {"XLA_FLAGS": "--a=1 --xla_force_host_platform_device_count=8 --b=2"}
    found = environment(parse_topology("cpu:4"), outside)
    assert found["JAX_NUM_CPU_DEVICES"] == "4"
    assert found["XLA_FLAGS"].split() == ["--a=1", "--b=2"]


def child(monkeypatch, answer=None, code=0, stderr=""):
    """Replaces the compiler's process by one that gives this answer."""
    seen = {}

    def run(command, *, env, timeout, **_):
        asked, answered = map(Path, command[-2:])
        seen.update(command=command, env=env, asked=json.loads(asked.read_text()), timeout=timeout)
        if answer is not None:
            answered.write_text(json.dumps(answer))
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(children.subprocess, "run", run)
    return seen


def test_the_answer_is_what_the_process_wrote(monkeypatch):
    before = dict(os.environ)
    seen = child(monkeypatch, dataclasses.asdict(compiled()))
    assert compile_apart(request(), cached=False, timeout=7.0) == compiled()
    assert seen["command"][0] == sys.executable
    assert (seen["asked"]["cache"], seen["timeout"]) == (None, 7.0)
    assert seen["asked"]["facts"]["classes"] == 1000
    assert dict(os.environ) == before  # nothing of a compiler's environment stays with us


@pytest.mark.parametrize(
    ("code", "stderr", "complaint"),
    [
        (-9, "", "was killed: this machine may be short of memory"),
        (-11, "some log\nFatal: x\n", "ended with signal 11: Fatal: x"),
        (1, "Traceback\nValueError: y\n\n", "failed: ValueError: y"),
        (1, "", "failed: it said nothing"),
    ],
)
def test_a_process_that_dies_is_an_answer(code, stderr, complaint, monkeypatch):
    child(monkeypatch, code=code, stderr=stderr)
    with pytest.raises(UserError, match=complaint) as found:
        compile_apart(request())
    assert "\n" not in str(found.value)


def test_what_the_process_refuses_is_said_as_it_says_it(monkeypatch):
    child(monkeypatch, {"error": "config.mesh.fsdp = 3: does not fit"})
    with pytest.raises(UserError, match=r"^config.mesh.fsdp = 3: does not fit$"):
        compile_apart(request())


def test_time_that_is_up_is_told_apart(monkeypatch):
    def run(command, *, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(children.subprocess, "run", run)
    with pytest.raises(OutOfTime, match="within 2 s"):
        compile_apart(request(), timeout=2.0)
