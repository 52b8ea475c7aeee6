"""`--help` is quick and says enough: it imports neither JAX nor TensorFlow."""

import os
import re
import resource
import subprocess
import sys

import pytest

from vit_jax.__main__ import VERBS, main

HEAVY = ("jax", "tensorflow", "tensorflow_datasets", "flax", "orbax", "numpy", "ml_collections")
LIST_IMPORTS = "import sys; from vit_jax.__main__ import main\ntry: main({argv})\nexcept SystemExit: pass\n"
COMMANDS = [["--help"], *([verb, "--help"] for verb in VERBS)]


def child(*argv):
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=True, env=dict(os.environ))


@pytest.mark.slow
@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(argv):
    printed = child("-c", LIST_IMPORTS.format(argv=argv) + "print('imported', *sys.modules)").stdout
    imported = printed.splitlines()[-1].split()
    assert "vit_jax" in imported
    assert not set(HEAVY) & set(imported)


@pytest.mark.slow
@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_help_takes_less_than_half_a_second_of_cpu(argv):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = child("-m", "vit_jax", *argv).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert printed.startswith("usage: vit_jax")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help"]])
def test_the_help_names_every_verb(argv, capsys):
    assert main(argv) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert dict(lines) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_shows_its_flags_and_an_explanation_of_each(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert out.startswith(f"usage: vit_jax {verb} ")
    options = out.partition("options:\n")[2].partition("\n\n")[0]
    flags = re.findall(r"^  -", options, re.MULTILINE)
    explained = re.findall(r"^  -.*?(?:  +|\n {10,})\w", options, re.MULTILINE)
    assert len(flags) == len(explained) >= 2


def test_the_help_of_train_explains_overrides_and_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    for text in ("--config.<key>=<value>", "--dry_run", "42 stopped and saved"):
        assert text in out


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()
