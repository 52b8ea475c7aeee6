"""Typed settings: what `build`, `complete` and `to_dict` accept, and how they name what they refuse."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from vit_jax.errors import BadSetting
from vit_jax.settings import build, complete, to_dict
from vit_jax.train import RunSettings


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    rules: tuple[tuple[str, float], ...] = ((".*", 1.0),)

    def __post_init__(self):
        if self.rate < 0:
            raise BadSetting("rate", self.rate, "must not be negative")


@dataclasses.dataclass(frozen=True)
class Outer:
    count: int = 3
    flag: bool = True
    name: str = "x"
    limit: int | None = None
    size: tuple[int, int] = (1, 2)
    inner: Inner = Inner()


def refusal(config):
    with pytest.raises(BadSetting) as caught:
        build(Outer, config)
    return str(caught.value)


def test_keys_left_out_take_the_defaults():
    assert build(Outer, {}) == Outer()
    assert build(Outer, {"inner": {"rate": 0.25}}) == Outer(inner=Inner(rate=0.25))


def test_lists_become_tuples_and_integers_become_floats_where_wanted():
    found = build(Outer, {"size": [4, 5], "inner": {"rate": 1, "rules": [["a", 2]]}})
    assert found == Outer(size=(4, 5), inner=Inner(1.0, (("a", 2.0),)))
    assert type(found.inner.rate) is float
    assert type(found.inner.rules[0][1]) is float


@pytest.mark.parametrize("value", [None, 4])
def test_an_optional_field_takes_none_and_its_type(value):
    assert build(Outer, {"limit": value}).limit == value


def test_a_config_dict_is_read_like_a_dict():
    assert build(Outer, ConfigDict({"count": 4, "inner": {"rate": 0.1}})) == Outer(count=4, inner=Inner(0.1))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"cuont": 4}, 'config.cuont = 4: unknown key; did you mean "count"?'),
        ({"inner": {"rat": 4}}, 'config.inner.rat = 4: unknown key; did you mean "rate"?'),
        ({"zzz": 4}, "config.zzz = 4: unknown key; known: count, flag, inner, limit, name, size"),
        ({"count": "4"}, "config.count = '4': must be int, not str"),
        ({"count": 4.0}, "config.count = 4.0: must be int, not float"),
        ({"count": True}, "config.count = True: must be int, not bool"),
        ({"count": None}, "config.count = None: must be int, not NoneType"),
        ({"flag": 1}, "config.flag = 1: must be bool, not int"),
        ({"name": 1}, "config.name = 1: must be str, not int"),
        ({"limit": "4"}, "config.limit = '4': must be int, not str"),
        ({"size": 4}, "config.size = 4: must be tuple[int, int]"),
        ({"size": (4,)}, "config.size = [4]: must have 2 entries, not 1"),
        ({"size": (4, "5")}, "config.size[1] = '5': must be int, not str"),
        ({"inner": 4}, "config.inner = 4: must be a group of settings"),
        ({"inner": {"rate": -1}}, "config.inner.rate = -1.0: must not be negative"),
        ({"inner": {"rules": (("a", 1.0), ("b", "c"))}}, "config.inner.rules[1][1] = 'c': must be float, not str"),
    ],
)
def test_what_does_not_fit_is_named_with_its_full_key(config, expected):
    assert refusal(config) == expected


@given(
    st.builds(
        Outer,
        count=st.integers(),
        flag=st.booleans(),
        name=st.text(),
        limit=st.none() | st.integers(),
        size=st.tuples(st.integers(), st.integers()),
        inner=st.builds(
            Inner,
            rate=st.floats(0, allow_infinity=False),
            rules=st.lists(st.tuples(st.text(), st.floats(allow_nan=False, allow_infinity=False))).map(tuple),
        ),
    )
)
def test_settings_survive_json(settings):
    assert build(Outer, json.loads(json.dumps(to_dict(settings)))) == settings


def test_the_settings_of_a_run_survive_json():
    settings = RunSettings()
    assert build(RunSettings, json.loads(json.dumps(to_dict(settings)))) == settings


def test_complete_fills_every_key_so_that_each_can_be_overridden():
    config = complete(ConfigDict({"count": 4}), Outer)
    assert config.to_dict() == {
        "count": 4,
        "flag": True,
        "name": "x",
        "limit": None,
        "size": (1, 2),
        "inner": {"rate": 0.5, "rules": ((".*", 1.0),)},
    }
    config.limit = 5
    with pytest.raises(TypeError):
        config.count = "many"
    assert build(Outer, config).limit == 5


def test_complete_makes_a_float_of_an_integer_so_that_a_fraction_can_override_it():
    config = complete(ConfigDict({"inner": {"rate": 1}}), Outer)
    config.inner.rate = 0.25
    assert build(Outer, config).inner.rate == 0.25


def test_complete_works_on_a_locked_config():
    config = ConfigDict({"count": 4}).lock()
    assert complete(config, Outer).inner.rate == 0.5
    assert config.is_locked


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"inner": {"rat": 4}}, 'config.inner.rat = 4: unknown key; did you mean "rate"?'),
        ({"inner": 4}, "config.inner = 4: must be a group of settings"),
    ],
)
def test_complete_refuses_what_build_refuses(config, expected):
    with pytest.raises(BadSetting) as caught:
        complete(ConfigDict(config), Outer)
    assert str(caught.value).startswith(expected)


def test_a_settings_class_checks_values_set_in_code_too():
    with pytest.raises(BadSetting, match=r"^rate = -1: must not be negative$"):
        Inner(rate=-1)


@dataclasses.dataclass(frozen=True)
class Groups:
    named: dict[str, Inner] = dataclasses.field(default_factory=dict)


def test_groups_that_the_user_names():
    found = build(Groups, {"named": {"a": {"rate": 1}, "b": {}}})
    assert found.named == {"a": Inner(1.0), "b": Inner()}
    assert build(Groups, to_dict(found)) == found
    with pytest.raises(BadSetting, match=r"config.named.a.rat = 1: unknown key; did you mean"):
        build(Groups, {"named": {"a": {"rat": 1}}})
    with pytest.raises(BadSetting, match=r"config.named.a.rate = -1.0: must not be negative"):
        build(Groups, {"named": {"a": {"rate": -1.0}}})
    with pytest.raises(BadSetting, match=r"config.named = 3: must be a group of named groups"):
        build(Groups, {"named": 3})


def test_an_override_makes_the_group_it_names():
    config = complete(ConfigDict({"named": {"a": {}}}), Groups, ["config.named.b.rate", "config.other"])
    assert sorted(config.named) == ["a", "b"]
    assert config.named.b.rate == config.named.a.rate == 0.5
