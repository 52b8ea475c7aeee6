"""The compiler's answers: memory, cost, what is kept, and messages of programs that are too large."""

import dataclasses
import json

import jax
import pytest

from vit_jax import parallel
from vit_jax.errors import UserError
from vit_jax.scaling.planning import compile as compiling
from vit_jax.scaling.planning.compile import _too_large, compile_program
from vit_jax.scaling.planning.record import Request
from vit_jax.train import DataFacts, make_program
from vit_jax.trees import named_leaves

GIB = 2**30


def ask(settings, topology="cpu:8"):
    wanted = dataclasses.asdict(parallel.parse_topology(topology))
    return Request(settings, DataFacts(1000, 10), wanted)


@pytest.fixture(scope="module")
def small():
    return {"model": {"variant": "nano/2"}, "mesh": {"fsdp": 4}, "train": {"batch_size": 16, "ema_decay": 0.9}}


def test_the_parts_of_the_memory_add_up(tiny_run, small):
    found = compile_program(ask(tiny_run(**small)))
    program = make_program(tiny_run(**small), DataFacts(1000, 10))
    named = {name: leaf.sharding.shard_shape(leaf.shape) for name, leaf in named_leaves(program.state).items()}

    def local(start):
        return sum(4 * jax.numpy.zeros(shape).size for name, shape in named.items() if name.startswith(start))

    memory = found.memory
    assert memory.parameters == memory.average == local("params/") == local("ema/")
    assert memory.optimizer == local("opt/")
    assert memory.batch == 16 // 8 * (8 * 8 * 3 + 4)
    assert found.state == local("params/") * 2 + local("opt/") + local("ema/") + 4
    held = memory.parameters + memory.optimizer + memory.average + memory.batch + memory.padding
    assert memory.total == held + memory.temporaries + memory.code
    assert memory.padding >= 4  # the step
    assert found.saved == sum(leaf.nbytes for leaf in jax.tree.leaves(jax.tree.map(_zeros, program.state)))


def _zeros(leaf):
    return jax.numpy.zeros(leaf.shape, leaf.dtype)


def test_flops_are_those_of_the_step_with_what_is_recomputed(tiny_run):
    runs = {remat: tiny_run(model={"variant": "nano/2", "remat": remat}) for remat in ("none", "full")}
    none, full = (compile_program(ask(run)) for run in runs.values())
    assert none.model_flops == full.model_flops
    assert none.flops < full.flops <= 4 / 3 * none.flops
    assert none.flops == pytest.approx(none.model_flops, rel=0.05)
    assert (none.steps, none.tokens, none.mesh["data"]) == (6, 17, 8)


def test_an_answer_is_kept_and_found(tiny_run, tmp_path, monkeypatch):
    first = compile_program(ask(tiny_run()), tmp_path)
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    assert compile_program(ask(tiny_run()), tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [f"{first.key}.json"]


@pytest.mark.parametrize("change", [{"schedule": {"learning_rate": 0.5}}, {"train": {"batch_size": 32}}], ids=str)
def test_another_program_is_another_answer(change, tiny_run, tmp_path):
    keys = {compile_program(ask(tiny_run(**groups)), tmp_path).key for groups in ({}, change)}
    assert len(keys) == len(list(tmp_path.iterdir())) == 2


def test_what_does_not_change_the_program_finds_it(tiny_run, tmp_path):
    one = compile_program(ask(tiny_run()), tmp_path).key
    assert compile_program(ask(tiny_run(log={"every": "2 steps"})), tmp_path).key == one
    assert compile_program(ask(tiny_run(seed=1)), tmp_path).key == one  # without dropout it is not in the program


def test_half_an_answer_is_no_answer(tiny_run, tmp_path):
    first = compile_program(ask(tiny_run()), tmp_path)
    path = tmp_path / f"{first.key}.json"
    path.write_text(path.read_text()[:100])
    again = compile_program(ask(tiny_run()), tmp_path)
    assert dataclasses.replace(again, seconds=0, compiler_memory=0) == dataclasses.replace(
        first, seconds=0, compiler_memory=0
    )
    assert json.loads(path.read_text())["key"] == first.key


def test_a_folder_that_cannot_be_written_is_no_accident(tiny_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert compile_program(ask(tiny_run()), tmp_path / "file").memory
    assert "set VIT_JAX_CACHE" in capsys.readouterr().err


def test_options_reach_the_compiler(tiny_run):
    with pytest.raises(UserError, match="No such compile option: 'xla_not_a_flag'"):
        compile_program(ask(tiny_run(compiler={"options": "xla_not_a_flag=1"})))


def test_a_mesh_that_does_not_fit_is_one_line(tiny_run):
    with pytest.raises(UserError, match=r"config.mesh .* does not fit 8 devices"):
        compile_program(ask(tiny_run(mesh={"data": 3})))


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (127.92G) exceeds available HBM (15.75G). HLO module: jit_step.",
            127.92 * GIB,
            15.75 * GIB,
        ),
        ("... temporaries (1.5T) exceeds available HBM (512M).", 1536 * GIB, GIB / 2),
        ("Ran out of memory in memory space hbm. Used 20.18G of 15.75G hbm. Exceeded", 20.18 * GIB, 15.75 * GIB),
    ],
)
def test_a_compiler_s_refusal_is_read(message, needed, available):
    found = _too_large(message)
    assert (found.needed, found.available) == (pytest.approx(needed), pytest.approx(available))


def test_any_other_refusal_is_passed_on_in_one_line():
    with pytest.raises(UserError, match=r"^the compiler refuses the program: INTERNAL: z$"):
        _too_large("INTERNAL: z\nmore\n")


def test_on_gpus_too_much_is_found_by_comparing(tiny_run, monkeypatch):
    """Their compilers do not mind."""
    chip = dataclasses.replace(parallel.CHIPS["h100"], memory=1000.0)
    monkeypatch.setattr(compiling.parallel, "chip_of", lambda kind: chip)
    found = compile_program(ask(tiny_run()))
    assert found.too_large.available == 1000
    assert found.memory is None


def test_the_program_can_be_looked_at(tiny_run, tmp_path):
    compile_program(ask(tiny_run()), tmp_path, tmp_path / "step.txt")
    compile_program(ask(tiny_run()), tmp_path, tmp_path / "again.txt")  # kept or not
    text = (tmp_path / "step.txt").read_text()
    assert text.startswith("HloModule jit_step")
    assert text == (tmp_path / "again.txt").read_text()
