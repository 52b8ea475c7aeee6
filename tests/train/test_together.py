"""Runs trained as one program are the runs that they are by themselves, with workdirs of their own."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest

from vit_jax import parallel
from vit_jax.checkpoint import load
from vit_jax.errors import Diverged, Stopped, UserError
from vit_jax.train import METRICS_FILE, Reporter, read_metrics, together_key, train, train_together
from vit_jax.trees import named_leaves

QUIET = Reporter(False)


def runs_of(tiny_run, **groups):
    """Three runs that differ in everything that may differ."""
    base = tiny_run(
        **{
            "model": {"dropout": 0.1},
            "train": {"micro_batches": 2, "ema_decay": 0.9, "duration": "12 steps"},
            "optimizer": {"weight_decay": 0.1, "clip_norm": 1.0},
            "evaluators": {"few": {"kind": "knn", "support": "train", "split": "test", "every": "6 steps"}},
            "inspect": {"every": "6 steps", "only": ("filters",)},
            **groups,
        }
    )

    def change(seed, rate, decay, smoothing, schedule):
        return dataclasses.replace(
            base,
            seed=seed,
            schedule=dataclasses.replace(base.schedule, learning_rate=rate, name=schedule),
            optimizer=dataclasses.replace(base.optimizer, weight_decay=decay),
            train=dataclasses.replace(base.train, label_smoothing=smoothing),
        )

    # Rates at which the loss falls: where it bounces, 12 steps make rounding a thousand times larger.
    return [
        change(0, 3e-3, 0.1, 0.0, "cosine"),
        change(2**32 - 1, 1e-3, 0.3, 0.1, "linear"),
        change(2**31, 5e-3, 0.05, 0.2, "rsqrt"),
    ]


def alone(settings, folder):
    train(settings, folder, reporter=QUIET)
    return folder


def numbers(folder, *names):
    return np.array([[r[name] for name in names] for r in read_metrics(folder / METRICS_FILE) if names[0] in r])


def pictures(folder):
    return sorted(path.parent.name for path in folder.glob("inspect/*/index.html"))


def records(folder):
    """Steps of all records but those of the account of time, which only a run by itself has."""
    return [r["step"] for r in read_metrics(folder / METRICS_FILE) if {"loss", "eval/loss", "few/accuracy"} & r.keys()]


def assert_same_run(one, other):
    assert records(one) == records(other)
    for names in (("loss", "accuracy", "gradient_norm", "learning_rate"), ("eval/loss",)):
        np.testing.assert_allclose(numbers(one, *names), numbers(other, *names), rtol=2e-5, atol=1e-6)
    # Of 1,024 images; one whose two nearest classes are as near but for rounding may go to either.
    np.testing.assert_allclose(numbers(one, "few/accuracy"), numbers(other, "few/accuracy"), rtol=0, atol=1.01 / 1024)
    assert pictures(one) == pictures(other)
    ours, theirs = (named_leaves(load(folder / "export" / "model.npz").params) for folder in (one, other))
    # The bias of the keys changes no attention: its gradient is rounding alone, which Adam makes as large as any other.
    for name in set(ours) - {"blocks/attn/key/bias"}:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.long
def test_each_is_the_run_that_it_is_by_itself_also_after_being_stopped(tiny_run, tmp_path, monkeypatch):
    """Together; together, stopped and resumed; stopped and resumed by `train`, one by one: all like three `train`s."""
    settings = runs_of(tiny_run)
    whole = [alone(own, tmp_path / f"alone_{i}") for i, own in enumerate(settings)]
    at_once = [tmp_path / f"together_{i}" for i in range(3)]
    assert train_together(settings, at_once, reporter=QUIET) == [None] * 3
    for one, other in zip(whole, at_once, strict=True):
        assert_same_run(one, other)
        assert pictures(other) == ["000000006", "000000012"]

    stopped = [tmp_path / f"stopped_{i}" for i in range(3)]
    with monkeypatch.context() as patch:
        _stop_after(patch, 5)
        with pytest.raises(Stopped, match="stopped after step 5 of 12"):
            train_together(settings, stopped, reporter=QUIET)
    assert [max(int(p.name) for p in (folder / "checkpoints").iterdir()) for folder in stopped] == [5] * 3
    alone(settings[0], stopped[0])
    assert train_together(settings[1:], stopped[1:], reporter=QUIET) == [None] * 2
    for one, other in zip(whole, stopped, strict=True):
        assert_same_run(one, other)


def _stop_after(patch, step):
    """Sends this process SIGTERM after so many steps."""
    from vit_jax.train.vectorised import Vectorised

    run, done = Vectorised.run, []

    def counted(self, *args):
        done.append(1)
        if len(done) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(self, *args)

    patch.setattr(Vectorised, "run", counted)


@pytest.mark.long
def test_a_run_that_diverges_leaves_the_others_alone(tiny_run, tmp_path):
    settings = runs_of(tiny_run, optimizer={"name": "sgd", "weight_decay": 0.1})
    bad = dataclasses.replace(settings[1].schedule, learning_rate=1e30)
    settings[1] = dataclasses.replace(settings[1], schedule=bad)
    folders = [tmp_path / str(i) for i in range(3)]
    outcomes = train_together(settings, folders, reporter=QUIET)
    assert [type(outcome) for outcome in outcomes] == [type(None), Diverged, type(None)]
    assert "diverged" in str(outcomes[1])
    assert [(folder / "export").exists() for folder in folders] == [True, False, True]
    assert_same_run(folders[2], alone(settings[2], tmp_path / "alone"))


@pytest.mark.long
def test_halves_are_trained_where_memory_is_short(tiny_run, tmp_path, monkeypatch, capfd):
    settings = runs_of(tiny_run, train={"duration": "2 steps"}, evaluators={})
    asked = []

    def available(mesh):
        asked.append(mesh)
        return float("inf") if len(asked) > 1 else 0

    monkeypatch.setattr(parallel, "available_bytes", available)
    folders = [tmp_path / str(i) for i in range(3)]
    assert train_together(settings, folders) == [None] * 3
    assert "memory is short for 3 runs at once: 1 now, the others after them" in capfd.readouterr().err
    assert all((folder / "export" / "model.npz").exists() for folder in folders)


@pytest.mark.long
def test_runs_on_a_mesh_that_start_from_weights(tiny_run, tmp_path):
    """Each from weights of its own, on eight devices of which two split the parameters."""
    start = [alone(tiny_run(seed=seed, train={"duration": "2 steps"}), tmp_path / f"start_{seed}") for seed in (0, 1)]
    settings = [
        tiny_run(
            seed=5,
            mesh={"data": 4, "fsdp": 2},
            init={"checkpoint": str(folder)},
            evaluators={"few": {"kind": "knn", "support": "train", "split": "test"}},
        )
        for folder in start
    ]
    folders = [tmp_path / str(i) for i in range(2)]
    assert train_together(settings, folders, reporter=QUIET) == [None, None]
    for i in range(2):
        assert_same_run(folders[i], alone(settings[i], tmp_path / f"alone_{i}"))
    assert numbers(folders[0], "loss").tolist() != numbers(folders[1], "loss").tolist()


def test_a_workdir_of_another_run_is_an_error_of_that_run_alone(tiny_run, tmp_path):
    settings = runs_of(tiny_run, train={"duration": "2 steps"}, evaluators={})
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "config.json").write_text(json.dumps({"seed": 99}))
    outcomes = train_together(settings[:2], [tmp_path / "0", tmp_path / "1"], reporter=QUIET)
    assert isinstance(outcomes[0], UserError)
    assert "was started with a different config" in str(outcomes[0])
    assert outcomes[1] is None
    assert (tmp_path / "1" / "export" / "model.npz").exists()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"seed": 5}, True),
        ({"schedule": {"learning_rate": 0.5, "name": "linear", "warmup": "1 step"}}, True),
        ({"optimizer": {"weight_decay": 0.5}}, True),
        ({"optimizer": {"weight_decay": 0.0}}, False),  # no decay is another program
        ({"optimizer": {"weight_decay": 0.1, "beta2": 0.9}}, False),
        ({"train": {"label_smoothing": 0.3}}, True),
        ({"train": {"batch_size": 8}}, False),
        ({"train": {"duration": "7 steps"}}, False),
        ({"model": {"depth": 2}}, False),
        ({"init": {"checkpoint": "w"}}, False),
        ({"data": {"subset_seed": 1}}, False),
    ],
)
def test_what_may_differ(change, same, tiny_run):
    base = {"optimizer": {"weight_decay": 0.1}}
    one, other = tiny_run(**base), tiny_run(**{**base, **change})
    assert (together_key(one) == together_key(other)) == same
    with_weights = [tiny_run(init={"checkpoint": name}) for name in ("a", "b")]
    assert together_key(with_weights[0]) == together_key(with_weights[1])


def test_runs_that_differ_in_more_than_numbers_are_refused(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="more than numbers"):
        train_together([tiny_run(), tiny_run(model={"depth": 2})], [tmp_path / "a", tmp_path / "b"])
