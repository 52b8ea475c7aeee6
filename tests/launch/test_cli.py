"""`vit_jax launch`: what stands before and after --, and what is refused."""

import subprocess
import sys

import pytest

from vit_jax.__main__ import main
from vit_jax.cli.launch import PLACES

HEAVY = {"jax", "numpy", "tensorflow", "flax", "orbax", "yaml"}


@pytest.mark.parametrize("place", PLACES)
def test_the_help_of_a_place_explains_every_flag_and_loads_nothing_heavy(place):
    code = (
        "import sys; from vit_jax.__main__ import main\n"
        f"try: main(['launch', {place!r}, '--help'])\nexcept SystemExit: print('imported', *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith(f"usage: vit_jax launch {place} ")
    for flag in ("--max_restarts N", "--env NAME[=VALUE]", "--dry_run, --dry-run"):
        assert f"  {flag}" in out
    assert not HEAVY & set(out.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["lokal", "--", "train"], "unknown place 'lokal'; did you mean \"local\"?"),
        ([], "the following arguments are required: WHERE; see vit_jax launch --help"),
        (["local"], "nothing to run; write -- and a verb with its flags, for example -- train --config=..."),
        (["local", "--"], "nothing to run; write -- and a verb with its flags, for example -- train --config=..."),
        (["local", "--", "trian"], "'trian' after -- is no verb to launch; did you mean \"train\"?"),
        (["local", "--", "launch"], "'launch' after -- is no verb to launch; "),
        (["local", "train"], "unrecognized arguments: train; see vit_jax launch local --help"),
        (["local", "--process=2", "--", "train"], "unrecognized arguments: --process=2; "),
        (["local", "--processes=x", "--", "train"], "argument --processes: invalid int value: 'x'; "),
        (["local", "--processes=0", "--", "train"], "--processes = 0: must be at least 1"),
        (["slurm", "--nodes=0", "--", "train"], "--nodes = 0: must be at least 1"),
        (["local", "--env=1x=2", "--", "train"], "--env = '1x=...': write NAME=VALUE"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(argv, complaint, capsys):
    assert main(["launch", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"vit_jax launch: {complaint}")
    assert err.count("\n") == 1


def test_only_the_first_two_dashes_are_ours(capsys):
    assert main(["launch", "local", "--dry_run", "--", "predict", "--checkpoint=w", "--", "-x.png"]) == 0
    assert "-m vit_jax predict --checkpoint=w -- -x.png &" in capsys.readouterr().out
