"""The restart rule."""

from vit_jax.launch import restart


def attempts(statuses, max_restarts, stopped=lambda: False):
    left = list(statuses)
    status = restart.run_until_final(lambda: left.pop(0), max_restarts, stopped)
    return status, len(statuses) - len(left)


def test_42_and_signals_are_restarted_and_nothing_else():
    for status in range(256):
        again = status == 42 or status >= 128
        assert attempts([status, 0], max_restarts=1) == ((0, 2) if again else (status, 1))


def test_restarts_are_counted():
    assert attempts([42, 137, 143, 134, 0], max_restarts=3) == (134, 4)
    assert attempts([42, 137, 143, 134, 0], max_restarts=4) == (0, 5)
    assert attempts([42, 0], max_restarts=0) == (42, 1)


def test_a_person_who_stops_the_job_is_not_restarted():
    assert attempts([42, 0], max_restarts=5, stopped=lambda: True) == (42, 1)


def test_the_first_failure_counts_not_its_consequences():
    assert restart.job_status([0, 1, 134, 137]) == 1
    assert restart.job_status([137, 1, 134]) == 137
    assert restart.job_status([0, 0]) == 0
    assert restart.job_status([]) == 0


def test_statuses_are_explained():
    assert restart.explain(137) == "137 (ended by SIGKILL)"
    assert restart.explain(42) == "42 (stopped and saved; the same command goes on)"
    assert restart.explain(7) == "7"
    assert [restart.shell_status(code) for code in (0, 2, -9, -15)] == [0, 2, 137, 143]
