"""The commands of the docs and of the README are ones that the launcher takes; its table is the rule."""

import re
import shlex
from pathlib import Path

import pytest

from vit_jax.__main__ import main
from vit_jax.cli.launch import PLACES
from vit_jax.launch import restart

REPOSITORY = Path(__file__).parents[2]
DOCS = (REPOSITORY / "docs" / "launch.md").read_text()
PAGES = DOCS + "".join((REPOSITORY / page).read_text() for page in ("README.md", "docs/operations.md"))


def commands():
    text = PAGES.replace("\\\n", " ")
    found = re.findall(r"^vit_jax launch (?!<).*$", text, re.MULTILINE)
    return [shlex.split(line.partition(" > ")[0], comments=True) for line in found]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_are_taken(command, capsys):
    at = command.index("--")
    assert main([*command[1:at], "--dry_run", *command[at:]]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


def test_there_is_a_section_for_every_place():
    assert re.findall(r"^## (\w+):", DOCS, re.MULTILINE) == list(PLACES)
    assert {command[2] for command in commands()} == set(PLACES)


def test_the_table_is_the_rule():
    rows = re.findall(r"^\| (\d+)(?: to (\d+))? \|.*\| (yes|no) \|$", DOCS, re.MULTILINE)
    said = {s: again == "yes" for low, high, again in rows for s in range(int(low), int(high or low) + 1)}
    assert said == {status: status in restart.RESUMABLE for status in said}
    assert {0, 1, 2, 3, 42, 134, 137, 143, 255} <= said.keys()
