"""Config files and overrides: how they are found, run and turned into typed settings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from vit_jax.config_files import SHIPPED, find_config, load_config, load_settings, override
from vit_jax.errors import BadSetting, UserError
from vit_jax.train import RunSettings

WITH_ARGUMENT = """
from ml_collections import ConfigDict
def get_config(variant="B/16"):
    if variant == "X":
        raise ValueError("no X")
    return ConfigDict({"model": {"variant": variant}})
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "c.py"
    path.write_text(WITH_ARGUMENT)
    return path


def test_the_shipped_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("configs/digits.py") == SHIPPED / "digits.py"
    assert find_config("digits.py") == SHIPPED / "digits.py"


def test_a_file_here_goes_before_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text(WITH_ARGUMENT)
    assert find_config("configs/digits.py").resolve() == tmp_path / "configs" / "digits.py"


def test_a_missing_file_is_answered_with_the_nearest_shipped_one():
    with pytest.raises(UserError, match=r"'configs/diggits.py' does not exist; did you mean \"configs/digits.py\"\?"):
        find_config("configs/diggits.py")


@pytest.mark.parametrize(("suffix", "expected"), [("", "B/16"), (":S/4", "S/4"), (":a:b", "a:b")])
def test_the_argument_after_the_colon_reaches_get_config(suffix, expected, config_file):
    assert load_config(f"{config_file}{suffix}").model.variant == expected


def test_an_argument_that_the_config_refuses_is_named(config_file):
    with pytest.raises(UserError, match=r"c.py does not accept 'X' \(ValueError: no X\)"):
        load_config(f"{config_file}:X")


def test_a_config_file_may_be_changed_between_two_loads(config_file):
    assert load_config(str(config_file)).model.variant == "B/16"
    config_file.write_text(WITH_ARGUMENT.replace("B/16", "L/16"))
    assert load_config(str(config_file)).model.variant == "L/16"


def test_overrides_are_typed_by_the_key(config_file):
    found = load_settings(
        RunSettings,
        str(config_file),
        [
            "--config.seed=3",
            "--config.schedule.learning_rate=1",
            "--config.model.heads=4",
            "--config.data.data_dir=3",
            "--config.data.image_size=32",
            "--noconfig.model.scan",
        ],
    )
    assert (found.seed, found.model.heads, found.data.data_dir) == (3, 4, "3")
    assert (found.data.image_size, found.model.scan) == ((32,), False)
    assert type(found.schedule.learning_rate) is float


def test_the_last_of_two_overrides_wins(config_file):
    assert load_settings(RunSettings, str(config_file), ["--config.seed=3", "--config.seed=4"]).seed == 4


def test_an_override_leaves_everything_else_alone(config_file):
    before = load_settings(RunSettings, str(config_file))
    after = load_settings(RunSettings, str(config_file), ["--config.train.batch_size=7"])
    assert before != after
    assert after.train.batch_size == 7
    assert (
        load_settings(RunSettings, str(config_file), [f"--config.train.batch_size={before.train.batch_size}"]) == before
    )


def test_a_value_that_the_settings_refuse_is_named_with_its_key(config_file):
    with pytest.raises(BadSetting, match=r"^config.train.loss = 'hinge': must be one of softmax, sigmoid$"):
        load_settings(RunSettings, str(config_file), ["--config.train.loss=hinge"])


@pytest.mark.parametrize(
    "text", ["--seed=3", "--config=3", "--config.=3", "config.seed=3", "--config.seed", "--config.seed 3"]
)
def test_what_is_no_override_is_refused_with_the_form(text):
    with pytest.raises(UserError, match=r"write --config.<key>=<value>"):
        override(ConfigDict({"seed": 1}), [text])


@settings(max_examples=50)
@given(st.integers(-(10**12), 10**12), st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_any_number_and_any_text_arrive_as_they_are(number, text):
    config = override(ConfigDict({"a": {"n": 0, "s": "x"}}), [f"--config.a.n={number}", f"--config.a.s={text}"])
    assert config.to_dict() == {"a": {"n": number, "s": text}}


@settings(max_examples=50)
@given(st.floats(allow_nan=False), st.lists(st.tuples(st.text("ab/.*'\"\\"), st.floats(0, 1))).map(tuple))
def test_fractions_and_tuples_arrive_as_they_are(number, rules):
    config = override(ConfigDict({"f": 0.5, "t": ()}), [f"--config.f={number}", f"--config.t={rules!r}"])
    assert config.to_dict() == {"f": number, "t": rules}
