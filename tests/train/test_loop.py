"""The loop on synthetic data, in this process: what it writes, resumes, and how it stops."""

import functools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import data
from vit_jax.checkpoint import CHECKPOINTS, load
from vit_jax.data import SyntheticDataset
from vit_jax.errors import Diverged, Stopped, UserError
from vit_jax.train import METRICS_FILE, Reporter, loop, program, read_metrics, train
from vit_jax.train.goodput import GOODPUT_FILE


class Signalling(Reporter):
    """Sends this process a signal when a step is reported."""

    def __init__(self, step, number=signal.SIGTERM):
        super().__init__(enabled=False)
        self._step, self._number = step, number

    def metrics(self, step, total, scalars, clock):
        if step == self._step:
            os.kill(os.getpid(), self._number)


def _losses(workdir):
    return {r["step"]: r["loss"] for r in read_metrics(workdir / METRICS_FILE) if "loss" in r}


def _saved(workdir):
    return sorted(int(p.name) for p in (workdir / CHECKPOINTS).iterdir())


def test_a_run_writes_what_it_promises(tiny_run, tmp_path):
    result = train(tiny_run(), tmp_path / "w")
    assert result.step == 6
    assert {p.name for p in (tmp_path / "w").iterdir()} == {
        "config.json",
        METRICS_FILE,
        GOODPUT_FILE,
        CHECKPOINTS,
        "export",
    }
    records = read_metrics(tmp_path / "w" / METRICS_FILE)
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]
    evaluations = [r for r in records if "eval/accuracy" in r]
    assert [r["step"] for r in evaluations] == [3, 6]
    assert result.evaluation == {k.removeprefix("eval/"): v for k, v in evaluations[-1].items() if k != "step"}
    assert [p.name for p in result.exported] == ["model.npz", "model.json"]
    np.testing.assert_array_equal(
        load(tmp_path / "w").params["pos_embedding"], load(result.exported[0]).params["pos_embedding"]
    )


def test_losses_are_written_in_full_precision(tiny_run, tmp_path):
    train(tiny_run(), tmp_path / "w")
    for loss in _losses(tmp_path / "w").values():
        assert np.float32(loss) == loss  # exactly a float32, not a rounded decimal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_saves_the_current_step_and_the_same_call_resumes(number, tiny_run, tmp_path):
    settings = tiny_run(train={"duration": "12 steps", "ema_decay": 0.9, "micro_batches": 2}, model={"dropout": 0.1})
    train(settings, tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=r"stopped after step (\d+) of 12, saved"):
        train(settings, tmp_path / "w", reporter=Signalling(2, number))
    assert signal.getsignal(number) is before
    stopped = _saved(tmp_path / "w")[-1]
    assert 2 <= stopped < 12
    assert max(_losses(tmp_path / "w")) == stopped
    train(settings, tmp_path / "w")
    assert _losses(tmp_path / "w") == _losses(tmp_path / "whole")


def test_a_finished_run_started_again_only_evaluates(tiny_run, tmp_path):
    first = train(tiny_run(), tmp_path / "w")
    lines = (tmp_path / "w" / METRICS_FILE).read_text()
    again = train(tiny_run(), tmp_path / "w")
    assert again.evaluation == first.evaluation
    assert (tmp_path / "w" / METRICS_FILE).read_text() == lines


def test_another_mesh_may_go_on_with_a_run(tiny_run, tmp_path):
    with pytest.raises(Stopped):
        train(tiny_run(), tmp_path / "w", reporter=Signalling(2))
    train(tiny_run(mesh={"data": 2, "fsdp": 2, "tensor": 2}), tmp_path / "w")
    train(tiny_run(), tmp_path / "whole")
    mixed, whole = _losses(tmp_path / "w"), _losses(tmp_path / "whole")
    np.testing.assert_allclose([mixed[s] for s in whole], list(whole.values()), rtol=1e-5)


def test_divergence_stops_the_run_and_leaves_good_checkpoints_alone(tiny_run, tmp_path, monkeypatch):
    """The gradient of step 5 is NaN; saves are due at 3 and 6."""
    honest = program.supervised

    def poisoned(*arguments):
        objective = honest(*arguments)

        def run(params, batch, key, constrain):
            loss, metrics = objective(params, batch, key, constrain)
            # The data of step 5 alone has been marked, see below.
            return jnp.where(batch["label"][0] < 0, jnp.nan, loss), metrics

        return run

    def batches(plan, first):
        for step, batch in enumerate(loop_batches(plan, first), first + 1):
            yield {**batch, "label": batch["label"] - 100} if step == 5 else batch

    loop_batches = loop._batches
    monkeypatch.setattr(program, "supervised", poisoned)
    monkeypatch.setattr(loop, "_batches", batches)
    with pytest.raises(Diverged, match=r"step 5 diverged: loss = nan.*checkpoint is step 3.*learning_rate"):
        train(tiny_run(), tmp_path / "w")
    assert _saved(tmp_path / "w") == [3]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(load(tmp_path / "w").params))
    records = read_metrics(tmp_path / "w" / METRICS_FILE)
    assert records[-1]["step"] == 5
    assert records[-1]["loss"] == "nan"


def test_keep_policy(tiny_run, tmp_path):
    train(tiny_run(checkpoint={"every": "1 step", "keep_last": 2, "keep_every": "3 steps"}), tmp_path / "w")
    kept = _saved(tmp_path / "w")
    assert kept == [1, 4, 5, 6]  # the first and whatever lies 3 steps after, and the last two


def test_a_workdir_of_another_config_is_left_alone(tiny_run, tmp_path):
    train(tiny_run(), tmp_path / "w")
    config = (tmp_path / "w" / "config.json").read_text()
    with pytest.raises(UserError, match=r"config.schedule.learning_rate was 0.001 and is 0.5"):
        train(tiny_run(schedule={"learning_rate": 0.5}), tmp_path / "w")
    assert (tmp_path / "w" / "config.json").read_text() == config
    train(tiny_run(schedule={"learning_rate": 0.5}), tmp_path / "w", accept_config_change=True)
    assert json.loads((tmp_path / "w" / "config.json").read_text())["schedule"]["learning_rate"] == 0.5
    assert (tmp_path / "w" / "config.0.json").read_text() == config


def test_a_run_that_recorded_nothing_gives_its_workdir_back(tiny_run, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        train(tiny_run(init={"checkpoint": str(tmp_path / "no.npz")}), tmp_path / "w")
    assert not (tmp_path / "w" / "config.json").exists()
    train(tiny_run(), tmp_path / "w")
    assert len(list((tmp_path / "w").glob("config*.json"))) == 1


def test_a_workdir_with_an_earlier_run_s_metrics_is_not_given_back(tiny_run, tmp_path):
    broken = tiny_run(init={"checkpoint": str(tmp_path / "no.npz")})
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "metrics.0.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    with pytest.raises(UserError, match="does not exist"):
        train(broken, tmp_path / "w")
    with pytest.raises(UserError, match=r"config.init.checkpoint was .* and is"):
        train(tiny_run(), tmp_path / "w")


def test_tensorboard_events_hold_the_scalars(tiny_run, tmp_path):
    pytest.importorskip("tensorflow")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    train(tiny_run(log={"tensorboard": True}), tmp_path / "w")
    events = EventAccumulator(str(tmp_path / "w" / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    found = {e.step: float(make_ndarray(e.tensor_proto)) for e in events.Tensors("loss")}
    assert found == _losses(tmp_path / "w")
    assert "eval/accuracy" in events.Tags()["tensors"]


def test_profile_steps_leave_a_trace(tiny_run, tmp_path):
    train(tiny_run(log={"profile_steps": (3, 4)}), tmp_path / "w")
    assert list((tmp_path / "w" / "profile").rglob("*.xplane.pb"))


def test_sigusr1_asks_for_a_trace(tiny_run, tmp_path):
    train(tiny_run(train={"duration": "15 steps"}), tmp_path / "w", reporter=Signalling(3, signal.SIGUSR1))
    assert list((tmp_path / "w" / "profile").rglob("*.xplane.pb"))


def test_stopping_does_not_wait_for_an_evaluation_that_is_made_up_for(tiny_run, tmp_path):
    settings = tiny_run(evaluate={"every": "1 step"})
    train(settings, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(settings, tmp_path / "w", reporter=Signalling(2))
    stopped = _saved(tmp_path / "w")[-1]
    assert max(_evaluations(tmp_path / "w")) < stopped
    train(settings, tmp_path / "w")
    assert _evaluations(tmp_path / "w") == _evaluations(tmp_path / "whole")
    assert sorted(_evaluations(tmp_path / "w")) == [1, 2, 3, 4, 5, 6]


def _evaluations(workdir):
    records = [r for r in read_metrics(workdir / METRICS_FILE) if "eval/loss" in r]
    assert len({r["step"] for r in records}) == len(records)
    return {r["step"]: r["eval/loss"] for r in records}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"seed": 7}, "written by a different config: config.seed was 0 and is 7"),
        ({"train": {"batch_size": 32}}, "config.train.batch_size was 16 and is 32"),
    ],
    ids=["seed", "batch size"],
)
def test_a_checkpoint_knows_its_config_even_if_the_workdir_forgot(changes, complaint, tiny_run, tmp_path):
    train(tiny_run(), tmp_path / "w")
    (tmp_path / "w" / "config.json").unlink()
    with pytest.raises(UserError, match=complaint):
        train(tiny_run(**changes), tmp_path / "w")


def test_going_on_with_other_data_is_refused(tiny_run, tmp_path, monkeypatch):
    train(tiny_run(), tmp_path / "w")
    monkeypatch.setattr(data, "SyntheticDataset", functools.partial(SyntheticDataset, size=1000))
    with pytest.raises(UserError, match="other data: the training split had 1024 examples and has 1000"):
        train(tiny_run(), tmp_path / "w")

    class Renamed(SyntheticDataset):
        label_names = ("a", *(f"class {i}" for i in range(1, 10)))

    monkeypatch.setattr(data, "SyntheticDataset", Renamed)
    with pytest.raises(UserError, match="class 0 was 'class 0' and is 'a'"):
        train(tiny_run(), tmp_path / "w")


def test_settings_that_an_older_version_did_not_know_count_as_their_defaults(tiny_run, tmp_path):
    train(tiny_run(), tmp_path / "w")
    path = tmp_path / "w" / "config.json"
    config = json.loads(path.read_text())
    del config["optimizer"]["momentum"]
    path.write_text(json.dumps(config))
    train(tiny_run(), tmp_path / "w")


def test_a_bucket_is_no_workdir(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"gs://bucket/run: must be a folder"):
        train(tiny_run(), "gs://bucket/run")
    assert not list(tmp_path.iterdir())


def test_steps_before_unreadable_data_are_saved(tiny_run, tmp_path, monkeypatch):
    def batches(plan, first):
        for step, batch in enumerate(loop_batches(plan, first), first + 1):
            if step == 5:
                raise UserError("image 'x.png' cannot be processed")
            yield batch

    loop_batches = loop._batches
    monkeypatch.setattr(loop, "_batches", batches)
    with pytest.raises(UserError, match=r"x\.png"):
        train(tiny_run(), tmp_path / "w")
    assert _saved(tmp_path / "w") == [3, 4]


def test_metrics_of_a_run_whose_checkpoints_are_gone_are_kept(tiny_run, tmp_path):
    train(tiny_run(), tmp_path / "w")
    before = (tmp_path / "w" / METRICS_FILE).read_text()
    (tmp_path / "w" / CHECKPOINTS).rename(tmp_path / "elsewhere")
    train(tiny_run(), tmp_path / "w")
    assert (tmp_path / "w" / "metrics.0.jsonl").read_text() == before
    assert _losses(tmp_path / "w") == {
        r["step"]: r["loss"] for r in map(json.loads, before.splitlines()) if "loss" in r
    }


def test_a_step_fetches_its_metrics_and_nothing_else_and_nothing_is_compiled_again(tiny_run, tmp_path, monkeypatch):
    """Counted over ten steps more; with a mean over eight devices nothing else may come to the host either."""
    from jax._src.array import ArrayImpl

    fetched, lowered = [], []
    value = ArrayImpl._value
    monkeypatch.setattr(ArrayImpl, "_value", property(lambda array: fetched.append(array.shape) or value.fget(array)))

    def listen(event, *_, **__):
        lowered.append(event) if event == "/jax/core/compile/jaxpr_to_mlir_module_duration" else None

    jax.monitoring.register_event_duration_secs_listener(listen)
    found = {}
    for steps in (3, 10, 20):  # the first fills what JAX keeps in memory
        settings = tiny_run(train={"duration": f"{steps} steps"}, evaluate={"split": ""}, checkpoint={"every": "100%"})
        train(settings, tmp_path / str(steps))
        found[steps] = list(fetched), len(lowered)
        fetched.clear(), lowered.clear()
    jax.monitoring.unregister_event_duration_listener(listen)
    names = set(read_metrics(tmp_path / "20" / METRICS_FILE)[0])
    per_step = names & {"loss", "accuracy", "learning_rate", "gradient_norm", "update_norm"}
    scalars = [sum(shape == () for shape in found[steps][0]) for steps in (10, 20)]
    assert scalars[1] - scalars[0] == 10 * len(per_step) > 0
    assert len(found[20][0]) - len(found[10][0]) == 10 * len(per_step)
    assert found[20][1] == found[10][1]
