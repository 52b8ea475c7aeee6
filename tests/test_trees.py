"""Names of leaves, and trees rebuilt from names."""

from typing import NamedTuple

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.trees import like, named_leaves, nested

KEYS = st.text("abc_0", min_size=1, max_size=3)
TREES = st.recursive(
    st.dictionaries(KEYS, st.integers(), min_size=1, max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | st.integers(), min_size=1, max_size=3),
    max_leaves=8,
)


class Moments(NamedTuple):
    mu: dict
    count: int


def test_names_join_keys_attributes_and_positions():
    tree = {"opt": {"adam": Moments({"head": {"bias": 1}}, 2)}, "list": [3, (4,)]}
    assert named_leaves(tree) == {"list/0": 3, "list/1/0": 4, "opt/adam/mu/head/bias": 1, "opt/adam/count": 2}


def test_names_are_in_the_order_of_the_leaves():
    tree = {"b": 1, "a": {"z": 2, "y": 3}}
    assert list(named_leaves(tree).values()) == jax.tree.leaves(tree)


def test_a_tree_is_filled_by_name_whatever_the_order():
    tree = {"adam": Moments({"kernel": 0}, 0), "ema": 0}
    found = like(tree, {"ema": 3, "adam/count": 2, "adam/mu/kernel": 1, "surplus": 4})
    assert found == {"adam": Moments({"kernel": 1}, 2), "ema": 3}


def test_a_missing_name_is_an_error():
    with pytest.raises(KeyError, match="b/c"):
        like({"a": 0, "b": {"c": 0}}, {"a": 1})


@given(TREES)
def test_nested_undoes_named_leaves(tree):
    assert nested(named_leaves(tree)) == tree


@given(TREES)
def test_like_undoes_named_leaves(tree):
    assert like(jax.tree.map(lambda _: "empty", tree), named_leaves(tree)) == tree
