"""Rules: the first pattern that matches the whole name decides, and every name must be decided."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.errors import UserError
from vit_jax.rules import assign, describe

NAMES = ["head/bias", "head/kernel", "blocks/mlp/kernel", "cls"]


def test_the_first_match_wins():
    found = assign(NAMES, [("head/.*", 1), (".*/kernel", 2), (".*", 3)], "decay")
    assert found == {"head/bias": 1, "head/kernel": 1, "blocks/mlp/kernel": 2, "cls": 3}
    assert list(found) == NAMES


def test_a_pattern_must_match_the_whole_name():
    assert assign(["head/kernel"], [("head", 1), ("kernel", 2), (".*", 3)], "decay") == {"head/kernel": 3}


def test_an_undecided_name_is_an_error_that_says_how_to_end_the_list():
    with pytest.raises(UserError, match=r"decay: no rule matches 'cls'; end the list with \('\.\*', <value>\)"):
        assign(NAMES, [(".*/.*", 1)], "decay")


def test_a_pattern_that_is_no_regular_expression_is_named_even_if_nothing_needs_it():
    with pytest.raises(UserError, match=r"decay: '\[a' is not a regular expression \(.*position 0\)"):
        assign(NAMES, [(".*", 1), ("[a", 2)], "decay")


def test_a_value_that_counts_as_false_still_decides():
    assert assign(["a"], [("a", 0.0), (".*", 1.0)], "decay") == {"a": 0.0}


def test_the_description_counts_each_value():
    assert describe({"a": 1.0, "b": 0.0, "c": 1.0}) == "2 parameters -> 1.0, 1 parameters -> 0.0"


@given(st.lists(st.sampled_from("abc"), max_size=4), st.lists(st.text("abc", min_size=1, max_size=3), unique=True))
def test_each_name_gets_the_first_rule_that_fits(letters, names):
    rules = [(f"{letter}.*", number) for number, letter in enumerate(letters)]
    found = assign(names, [*rules, (".*", -1)], "decay")
    for name in names:
        fitting = [value for pattern, value in rules if re.fullmatch(pattern, name)]
        assert found[name] == (fitting[0] if fitting else -1)
