"""A shell runs exactly the command that was meant, and no credential is shown."""

import re
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vit_jax.errors import BadSetting
from vit_jax.launch import shell

PRINT = ["printf", r"%s\0"]
# Whatever a process can be given: any text without NUL.
arguments = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(
        ["a b", "$(touch x)", "`x`", "'", '"', "\\", ";", "&", "\n", "", "*", "~", "-n", "${HOME}", "!1"]
    ),
    min_size=1,
    max_size=5,
)


def run(script, **variables):
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True, env=variables)
    return done.stdout.decode().split("\0")[:-1]


@settings(deadline=None, max_examples=60)
@given(arguments)
@example(["--workdir=/mnt/a b;$(rm -rf x)'\"\n"])
def test_a_shell_splits_the_line_into_the_same_arguments(given_arguments):
    assert run(shell.quote([*PRINT, *given_arguments])) == given_arguments


@settings(deadline=None, max_examples=60)
@given(arguments, st.integers(0, 999))
@example(["{index}", "a{index}b{index}", "{index}'{index}\"$I"], 7)
def test_the_index_is_filled_in_and_nothing_else(given_arguments, index):
    line = shell.quote([*PRINT, *given_arguments], index="I")
    assert run(line, I=str(index)) == [a.replace("{index}", str(index)) for a in given_arguments]


@settings(deadline=None, max_examples=40)
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])))
@example("END\nEND_\n$HOME `x` \\")
def test_a_file_gets_exactly_the_text(text):
    script = shell.heredoc("cat", text + "\n")
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == text + "\n"


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12))
def test_assignments_say_the_value(value):
    line = " ".join(shell.assignments({"A": value, "B_TOKEN": value}))
    assert run(f'env {line} /bin/bash -c \'printf "%s\\0" "$A" "$B_TOKEN"\'', B_TOKEN="its") == [value, "its"]


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "HF_TOKEN", "MY_SECRET", "PASSWORD", "db_passwd", "GOOGLE_CREDENTIALS"]
)
def test_credentials_are_known_by_their_names(name):
    assert shell.is_credential(name)
    assert shell.assignments({name: "hunter2"}) == [f'{name}="${name}"']


def test_other_variables_are_no_credentials():
    assert not any(map(shell.is_credential, ["PATH", "XLA_FLAGS", "JAX_PLATFORMS", "LIBTPU_INIT_ARGS"]))


def test_variables_are_given_or_passed_on():
    assert shell.environment(["A=1", "B=x=y", "C", "D="], {"C": "3"}) == {"A": "1", "B": "x=y", "C": "3", "D": ""}


@pytest.mark.parametrize(
    ("text", "shown"), [("1A=hunter2", "'1A=...'"), ("=hunter2", "'=...'"), ("NOWHERE", "not set")]
)
def test_bad_variables_are_refused_without_their_value(text, shown):
    with pytest.raises(BadSetting, match=re.escape(shown)) as refused:
        shell.environment([text], {})
    assert "hunter2" not in str(refused.value)
