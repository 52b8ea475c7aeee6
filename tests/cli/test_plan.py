"""`vit_jax plan` as a person uses it, without a compiler."""

import json

import pytest

from vit_jax.scaling import planning

DIGITS = [
    "--config=configs/digits.py",
    "--config.data.task=digits",
    "--config.model.variant=mu/2",
    "--config.train.batch_size=16",
    "--config.log.tensorboard=False",
]


NOWHERE = ["--config.data.train_split=train[:50%]", "--config.data.data_dir=/nowhere"]


@pytest.fixture
def answered(monkeypatch):
    """Answers in place of a compiler's process; what was asked."""
    from tests.scaling.plans import compiled

    asked = []

    def instead(request, **options):
        asked.append((request, options))
        return compiled()

    monkeypatch.setattr(planning, "compile_apart", instead)
    return asked


def test_the_plan_is_printed(call, answered):
    status, out, err = call("plan", *DIGITS, "--topology=v5litepod-16")
    assert (status, err) == (0, "")
    assert "digits: 1,437 images, 8x8 px, 10 classes" in out
    assert "of 15.75 GiB: it fits" in out
    (request, options) = answered[0]
    assert request.topology == {"platform": "tpu", "chip": "v5e", "shape": (4, 4), "slices": 1}
    assert options == {"cached": True, "text_file": None}


def test_json_is_alone_on_standard_output(call, answered):
    found = json.loads(call("plan", *DIGITS, "--topology=v5e:4x4", "--json").out)
    assert found["data"] == {"examples": 1437, "classes": 10, "multi_label": False}
    assert found["compiled"]["memory"]["total"] == 5 * 2**30
    assert found["run"]["days"] > 0
    assert found["step"].keys() == {"compute", "memory", "links", "network", "schedule"}


def test_data_may_be_said(call, answered):
    call("plan", *DIGITS, "--topology=v5e:4x4", "--classes=5", "--examples=100", "--no_cache")
    request, options = answered[0]
    assert (request.facts.classes, request.facts.examples, options["cached"]) == (5, 100, False)


def test_data_that_is_there_is_looked_at(call, answered, digits_dir):
    """A split of its own: the catalog does not say how large it is."""
    half = ["--config.data.train_split=train[:50%]", f"--config.data.data_dir={digits_dir}"]
    assert call("plan", *DIGITS, *half, "--topology=v5e:4x4").status == 0
    assert answered[0][0].facts.examples == 718


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--topology=v5e:5x"], "--topology = 'v5e:5x': write v5e:16x16"),
        (["--topology=v5e:4x4", "--classes=0"], "--classes=0: must be more than 0"),
        (["--topology=v5e:4x4", "--config.compiler.options=x"], "config.compiler.options = 'x': write name=value"),
        (["--topology=cpu:8", "--search"], "--search is for TPUs"),
        (["--topology=v5e:4x4", "--search", "--hlo=x"], "leave out --search"),
        (["--topology=v5e:4x4", *NOWHERE], "--classes and --examples"),
        (["--topology=v5e:4x4", "--config.mesh.data=0"], "config.mesh.data = 0"),
    ],
)
def test_bad_input_is_one_line(flags, complaint, call, answered):
    status, _, err = call("plan", *DIGITS, *flags)
    assert status == 2
    assert complaint in err
    assert err.count("\n") == 1
    assert not answered


@pytest.mark.parametrize("fits", [True, False])
def test_a_search_ends_with_the_best(fits, call, monkeypatch):
    from tests.scaling.plans import compiled, too_large
    from vit_jax.scaling.planning import Candidate, estimate

    def instead(request, *, budget, workers, told):
        assert (budget, workers) == (60.0, 1)
        answer = compiled() if fits else too_large(20.0)
        found = [Candidate(request.settings, estimate(request, answer)), Candidate(request.settings, None, "no time")]
        for candidate in found:
            told(candidate)
        return found

    monkeypatch.setattr(planning, "search", instead)
    flags = ["--topology=v5e:4x4", "--search", "--budget=1", "--workers=1"]
    status, out, err = call("plan", *DIGITS, *flags)
    assert status == 0
    assert len(err.splitlines()) == 2
    if fits:
        assert "best        --config.mesh.fsdp=0 --config.mesh.tensor=1 --config.model.remat=none" in out
    else:
        assert "none of these fits: take more chips" in out
    found = json.loads(call("plan", *DIGITS, *flags, "--json").out)
    assert (found["fits"], len(found["candidates"])) == (fits, 2)
