"""Traffic of programs whose traffic is known: compiled ones, and texts that only a TPU's compiler writes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from vit_jax.programs import costs, hlo

SIZE = 4096  # float32: 16 KiB a device


def counted(function, *arguments):
    return costs.count(hlo.parse(jax.jit(function).lower(*arguments).compile().as_text()), 8)


def on_devices(function):
    mesh = Mesh(np.array(jax.devices()), ("x",))
    return jax.shard_map(function, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False)


# --- networks ---

# What each device sends in a ring of eight, of arrays whose part on a device is SIZE numbers.
KINDS = {
    "all-reduce": (lambda x: jax.lax.psum(x, "x"), 2 * 7 / 8 * SIZE),
    "all-gather": (lambda x: jax.lax.all_gather(x, "x").sum(0), 7 / 8 * 8 * SIZE),
    "reduce-scatter": (lambda x: jnp.tile(jax.lax.psum_scatter(x, "x", tiled=True), 8), 7 / 8 * SIZE),
    "all-to-all": (lambda x: jax.lax.all_to_all(x.reshape(8, -1), "x", 0, 0).reshape(-1), 7 / 8 * SIZE),
    "collective-permute": (lambda x: jax.lax.ppermute(x, "x", [(i, (i + 1) % 8) for i in range(8)]), SIZE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_a_device_sends_follow_from_the_algorithm_of_a_ring(kind):
    function, numbers = KINDS[kind]
    found = counted(on_devices(function), jnp.ones(8 * SIZE)).collectives()
    assert [(t.kind, t.bytes, t.count) for t in found] == [(kind, 4 * numbers, 1)]
    assert found[0].group == (2 if kind == "collective-permute" else 8)


@pytest.mark.parametrize("steps", [1, 7, 24])
def test_the_body_of_a_loop_is_multiplied_out(steps):
    def looped(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(jax.lax.psum(c, "x")), None), x, None, length=steps)[0]

    (found,) = counted(on_devices(looped), jnp.ones(8 * SIZE)).collectives()
    assert (found.count, found.bytes) == (steps, steps * 2 * 7 / 8 * SIZE * 4)


def test_loops_within_loops_multiply():
    def inner(c, _):
        return jnp.cos(jax.lax.psum(c, "x")), None

    def outer(c, _):
        return jax.lax.scan(inner, c, None, length=3)[0], None

    def program(x):
        return jax.lax.scan(outer, x, None, length=5)[0]

    assert counted(on_devices(program), jnp.ones(8 * SIZE)).collectives()[0].count == 15


def test_groups_are_known_apart():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))

    def program(x):
        return jax.lax.psum(jnp.sin(jax.lax.psum(x, "a")), "b")

    whole = jax.shard_map(program, mesh=mesh, in_specs=P(("a", "b")), out_specs=P(("a", "b")), check_vma=False)
    found = counted(whole, jnp.ones(8 * SIZE)).collectives()
    assert [(t.group, t.bytes) for t in found] == [(2, 4 * SIZE), (4, 1.5 * 4 * SIZE)]


ENTRY = """HloModule m
%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}}
ENTRY %main (p: f32[{size}]) -> f32[{size}] {{
  %p = f32[{size}]{{0}} parameter(0)
  ROOT %r = f32[{size}]{{0}} all-reduce(%p), channel_id=1, {groups}, use_global_device_ids=true, to_apply=%add
}}
"""


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups=[32,8]<=[16,16]T(1,0)", 8),
        ("replica_groups={}", 256),
        ("replica_groups=mesh['axis_0'=16,'axis_1'=1,'axis_2'=16] {'axis_0','axis_1'}", 16),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=256], device_ids=([256,2]T(1,0)) {'axis_1'}", 256),
        ("replica_groups=mesh['axis_0'=16] {'axis_0':(1)4}", 4),
        ("replica_groups=mesh['axis_0'=16] {'axis_0':(4)2}", 2),
    ],
)
def test_groups_are_read_in_every_form(groups, expected):
    (found,) = costs.count(hlo.parse(ENTRY.format(size=SIZE, groups=groups)), 256).collectives()
    assert (found.group, found.bytes) == (expected, pytest.approx(2 * (expected - 1) / expected * 4 * SIZE))


STEPS = """HloModule m
%start (p: f32[8]) -> (f32[8], f32[32]) {
  %p = f32[8]{0} parameter(0)
  %g.1 = f32[32]{0} all-gather(%p), channel_id=9, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %c = (f32[8]{0}, f32[32]{0}) custom-call(%g.1), custom_call_target="AsyncCollectiveStart"
}
%step (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %g.2 = f32[32]{0} all-gather(%p), channel_id=9, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %n = f32[8]{0} negate(%p)
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %f.1 = (f32[8]{0}, f32[32]{0}) fusion(%a), kind=kCustom, calls=%start
  ROOT %f.2 = f32[8]{0} fusion(%a), kind=kLoop, calls=%step
}
"""


def test_a_collective_that_runs_in_steps_within_other_work_counts_once():
    (found,) = costs.count(hlo.parse(STEPS), 4).collectives()
    assert (found.kind, found.count, found.bytes) == ("all-gather", 1, 3 / 4 * 32 * 4)


SLICES = """HloModule m
ENTRY %main (a: bf16[64]) -> bf16[64] {
  %a = bf16[64]{0} parameter(0)
  %t = token[] after-all()
  %s = (bf16[64]{0}, u32[], token[]) send(%a, %t), channel_id=3, is_host_transfer=true, \
frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %n = bf16[64]{0} negate(%a)
}
"""


def test_what_goes_to_other_slices_is_counted_apart():
    found = costs.count(hlo.parse(SLICES), 8)
    assert (found.slice_bytes, found.collectives()) == (128, [])


# --- memory ---


def test_an_element_wise_operation_reads_and_writes_its_arrays():
    assert counted(lambda x: jnp.sin(x) + 1, jnp.ones(10_000)).memory_bytes == 2 * 40_000


def test_a_matrix_product_reads_two_matrices_and_writes_one():
    found = counted(jnp.dot, jnp.ones((64, 32)), jnp.ones((32, 16)))
    assert found.memory_bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)


@pytest.mark.parametrize("steps", [4, 16])
def test_a_loop_over_stacked_arrays_reads_each_slice_once(steps):
    """Not all of the stack in every step: that would grow with the square of the steps."""
    slices = jnp.ones((steps, 128, 128))

    def program(x):
        return jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), c), x, slices)

    one = 4 * 128 * 128
    found = counted(program, jnp.ones((128, 128))).memory_bytes
    assert 4 * one * steps <= found <= 16 * one * steps


def test_what_lies_in_fast_memory_is_free():
    text = """HloModule m
ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %c = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %d = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%c)
  %n = f32[8,128]{1,0:T(8,128)S(1)} negate(%d)
  ROOT %o = f32[8,128]{1,0:T(8,128)} copy(%n)
}
"""
    one = 8 * 128 * 4
    assert costs.count(hlo.parse(text), 1).memory_bytes == 2 * one  # in once, out once


# --- loops ---

LOOP = """HloModule m
%body (s: (s32[], f32[4])) -> (s32[], f32[4]) {{
  %s = (s32[], f32[4]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[4]{{0}} get-tuple-element(%s), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %n = f32[4]{{0}} negate(%x), backend_config={{"window_config":{{"estimated_cycles":"10"}}}}
  ROOT %t = (s32[], f32[4]{{0}}) tuple(%next, %n)
}}
%test (s: (s32[], f32[4])) -> pred[] {{
  %s = (s32[], f32[4]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %end = s32[] {end}
  ROOT %lt = pred[] compare(%i, %end), direction=LT
}}
ENTRY %main (x: f32[4]) -> (s32[], f32[4]) {{
  %x = f32[4]{{0}} parameter(0)
  %begin = s32[] constant({begin})
  %t = (s32[], f32[4]{{0}}) tuple(%begin, %x)
  ROOT %w = (s32[], f32[4]{{0}}) while(%t), condition=%test, body=%body{said}
}}
"""


@pytest.mark.parametrize(
    ("begin", "end", "said", "expected"),
    [
        (0, "constant(24)", "", 24),
        (1, "constant(24)", "", 23),  # the first was peeled off
        (24, "constant(24)", "", 0),
        (0, "constant(24)", ', backend_config={"known_trip_count":{"n":"12"}}', 12),
        (0, "get-tuple-element(%s), index=0", "", None),
    ],
)
def test_the_length_of_a_loop_is_read_from_its_condition(begin, end, said, expected):
    module = hlo.parse(LOOP.format(begin=begin, end=end, said=said))
    main = module.computations["main"]
    assert costs.trip_count(module, main["w"], main) == expected
    found = costs.count(module, 1)
    assert found.cycles == 10 * (1 if expected is None else expected)
    assert found.unknown_loops == (expected is None)
