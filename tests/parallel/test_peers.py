"""A failure of one process is everybody's, with its words and exit status; silence is told before JAX acts on it."""

import sys
import threading

import jax
import pytest

from tests.clock import Time
from vit_jax.parallel import peers
from vit_jax.parallel.peers import Failure, Peers, end_job, is_loss, join_job

from .service import Service

look = peers._look


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def job(time):
    service = Service()
    return service, [Peers(service, i, 3, heartbeat=30, now=time) for i in range(3)]


def test_the_first_failure_is_that_of_all(job):
    _, (a, b, c) = job
    assert c.known() is None
    assert c.late() == ""
    assert b.fail(2, "no such file\n'x'") == Failure(1, 2, "no such file\n'x'")
    assert a.fail(134, "process 1 is gone") == Failure(1, 2, "no such file\n'x'")
    assert [each.known() for each in (a, b, c)] == [Failure(1, 2, "no such file\n'x'")] * 3


def test_without_the_service_a_process_ends_with_its_own_failure(job):
    service, (a, *_) = job
    service.gone = True
    assert a.fail(3, "diverged") == Failure(0, 3, "diverged")


def test_silent_processes_are_named_to_all_and_forgotten_when_they_are_back(job, time):
    _, everyone = job
    a, b, c = everyone
    for _ in range(3):
        for each in everyone:
            each.beat()
        time.passes(10)
    for _ in range(3):
        b.beat()
        a.beat()
        time.passes(10)
    assert [each.late()[:36] for each in everyone] == ["process 2 of this job did not answer"] * 3
    assert "for 15 s" in a.late()
    assert "ends the job after 30 s" in a.late()
    c.beat()
    a.beat()
    assert b.late() == ""


def test_several_silent_processes_are_one_line(job, time):
    _, (a, *others) = job
    for each in (*others, a):
        each.beat()
    time.passes(20)
    a.beat()
    assert a.late().startswith("processes 1, 2 of this job did not answer")


def test_a_process_that_ends_in_good_order_is_not_missed(job, time):
    _, (a, b, c) = job
    for each in (b, c, a):
        each.beat()
    b.rest()
    for _ in range(4):
        time.passes(10)
        c.beat()
        a.beat()
    assert a.late() == ""


def test_process_0_stays_until_the_others_know(job):
    _, (a, b, c) = job
    c.has_ended()
    waiting = threading.Thread(target=a.wait_for_others)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    b.has_ended()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.fixture
def left(monkeypatch):
    """The exit statuses with which the process would have ended."""
    statuses = []

    def leave(status):
        statuses.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(peers, "_leave", leave)
    monkeypatch.setattr(peers, "_look", lambda job, stop: None)  # the tests look themselves
    monkeypatch.setattr(peers, "_job", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return statuses


def test_a_process_alone_ends_no_job(left):
    end_job(2, "x")
    assert not left


def test_a_process_ends_when_another_fails_and_says_why(left, capsys):
    service = Service()
    join_job(service, 1, 2, heartbeat=0.015)()
    Peers(service, 0, 2, 30).fail(3, "step 5 diverged")
    with pytest.raises(SystemExit):
        look(peers._job, threading.Event())
    assert left == [3]
    assert capsys.readouterr().err == "vit_jax: process 0 of this job failed: step 5 diverged\n"
    assert any(key.endswith("ended/1") for key in service.values)


def test_a_process_ends_when_the_service_is_gone_and_says_so(left, capsys):
    service = Service()
    join_job(service, 1, 2, heartbeat=0.015)()
    service.gone = True
    with pytest.raises(SystemExit):
        look(peers._job, threading.Event())
    assert left == [134]
    assert "process 0 of this job, or the way to it, is gone" in capsys.readouterr().err


def test_a_process_that_ends_itself_says_nothing_about_the_service(left, capsys):
    service, stop = Service(), threading.Event()
    join_job(service, 1, 2, heartbeat=0.015)()
    service.gone = True
    stop.set()
    look(peers._job, stop)
    assert not left
    assert not capsys.readouterr().err


def uncaught(error):
    with pytest.raises(SystemExit):
        sys.excepthook(type(error), error, None)


def test_a_bug_of_one_process_ends_the_job_with_its_traceback(left, capsys):
    service = Service()
    join_job(service, 1, 2, heartbeat=1e9)()
    uncaught(KeyError("oops"))
    assert left == [1]
    assert "KeyError: 'oops'" in capsys.readouterr().err
    assert Peers(service, 0, 2, 30).known() == Failure(1, 1, "KeyError: 'oops'")


LOST = jax.errors.JaxRuntimeError(
    "UNKNOWN: Gloo all-reduce failed: [gloo/transport/tcp/pair.cc:538] Read error: Connection reset by peer"
)


def test_a_lost_peer_is_said_in_one_line_with_a_status_that_is_restarted(left, capsys):
    join_job(Service(), 1, 2, heartbeat=1e9)()
    uncaught(LOST)
    assert left == [134]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "another process of this job is gone; its own output says why" in said
    assert "goes on from its last checkpoint" in said


def test_a_lost_peer_that_has_said_why_is_quoted(left, capsys):
    service = Service()
    join_job(service, 1, 2, heartbeat=1e9)()
    Peers(service, 0, 2, 30).fail(4, "the disk is full")
    uncaught(LOST)
    assert left == [4]
    assert capsys.readouterr().err == "vit_jax: process 0 of this job failed: the disk is full\n"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (str(LOST), True),
        ("INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error", True),
        ("DEADLINE_EXCEEDED: Barrier timed out. Id: x", True),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes", False),
        ("INVALID_ARGUMENT: shapes do not match", False),
        ("INTERNAL: CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_what_a_lost_peer_looks_like(text, lost):
    assert is_loss(jax.errors.JaxRuntimeError(text)) == lost
    assert not is_loss(ValueError(text))
