"""Reading compiled programs: what XLA really writes, and the forms that only TPUs have."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.programs import hlo


def one(text):
    (found,) = hlo.arrays(text)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f32[]", hlo.Array("f32", ())),
        ("bf16[3,5]{1,0}", hlo.Array("bf16", (3, 5), (1, 0))),
        ("pred[7]{0:T(1024)}", hlo.Array("pred", (7,), (0,), (1024,))),
        ("bf16[2,3,4]{1,2,0:T(8,128)(2,1)S(1)}", hlo.Array("bf16", (2, 3, 4), (1, 2, 0), (8, 128), 1)),
        ("u32[]{:S(2)}", hlo.Array("u32", (), (), (), 2)),
        ("f8e4m3fn[4]{0}", hlo.Array("f8e4m3fn", (4,), (0,))),
    ],
)
def test_an_array_is_read_with_its_layout(text, expected):
    assert one(text) == expected


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("pred", 1), ("s8", 1), ("bf16", 2), ("f32", 4), ("f64", 8), ("s4", 0.5), ("f8e5m2", 1), ("token", 0)],
)
def test_bytes_follow_from_the_type(dtype, size):
    assert one(f"{dtype}[6]{{0}}").bytes == 6 * size


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_two_fastest_dimensions_are_padded_to_whole_tiles(shape, random):
    order = random.sample(range(len(shape)), len(shape))
    text = f"bf16[{','.join(map(str, shape))}]{{{','.join(map(str, order))}:T(8,128)(2,1)}}"
    padded = [-(-shape[d] // tile) * tile for d, tile in zip(order[:2], (128, 8), strict=False)]
    assert one(text).bytes == 2 * math.prod(padded) * math.prod(shape[d] for d in order[2:])


def test_a_tuple_has_its_members_in_order():
    text = "(f32[2]{0:T(128)}, /*index=1*/(s32[], bf16[3,4]{1,0:T(8,128)(2,1)S(1)}), token[])"
    assert [array.dtype for array in hlo.arrays(text)] == ["f32", "s32", "bf16", "token"]


def test_a_line_is_taken_apart():
    text = """HloModule m
%inside (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %n = f32[4]{0} negate(%p)
}

ENTRY %main (a: f32[4]) -> (f32[4], f32[4]) {
  %a = f32[4]{0:T(128)} parameter(0)
  %f.1 = f32[4]{0} fusion(%a), kind=kLoop, calls=%inside, metadata={op_name="jit(f)/neg" stack_frame_id=3}
  ROOT %t = (f32[4]{0:T(128)}, f32[4]{0}) tuple(%a, %f.1)
}
"""
    module = hlo.parse(text)
    assert (module.entry, list(module.computations)) == ("main", ["inside", "main"])
    fusion = module.computations["main"]["f.1"]
    assert (fusion.opcode, fusion.operands, list(fusion.called())) == ("fusion", ("a",), ["inside"])
    assert fusion.attribute(r'op_name="([^"]*)"') == "jit(f)/neg"
    assert [i.name for i in module.instructions() if i.root] == ["n", "t"]
    assert module.computations["main"]["t"].bytes == 32 + 512 - 16  # the first is padded to 128 elements


def test_a_text_without_a_program_is_an_error():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("HloModule m\n")


def test_every_instruction_of_a_real_program_is_read():
    def program(x, w):
        def body(carry, row):
            return jnp.tanh(carry @ w) + row, carry.sum()

        carry, sums = jax.lax.scan(body, x, jnp.ones((5, 16, 16)))
        return jax.lax.cond(sums.sum() > 0, jnp.sin, lambda y: y * 2, carry)

    text = jax.jit(program).lower(jnp.ones((16, 16)), jnp.ones((16, 16))).compile().as_text()
    module = hlo.parse(text)
    assert len(list(module.instructions())) == len(re.findall(r"^ +(?:ROOT )?%?[\w.\-]+ = ", text, re.MULTILINE))
    called = {name for i in module.instructions() for name in i.called()}
    assert called <= set(module.computations)
    assert {"while", "conditional", "dot"} <= {i.opcode for i in module.instructions()}
