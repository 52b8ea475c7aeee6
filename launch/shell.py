"""Commands written for a shell, so that it runs exactly them; and credentials kept out of what is written."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from vit_jax.errors import BadSetting

INDEX = "{index}"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL", re.IGNORECASE)


def quote(arguments: Sequence[str], index: str = "") -> str:
    """One line that a shell splits into exactly these arguments.

    Args:
      arguments: what to run; none may hold a NUL, which no process can be given.
      index: the shell variable that takes the place of the text `{index}`; empty leaves the text alone.
    """
    if not index:
        return shlex.join(arguments)
    return " ".join(f'"${{{index}}}"'.join(_pieces(argument)) for argument in arguments)


def _pieces(argument: str) -> list[str]:
    pieces = argument.split(INDEX)
    return [shlex.quote(piece) if piece or len(pieces) == 1 else "" for piece in pieces]


def heredoc(command: str, text: str) -> str:
    """Shell lines that run a command with this text, which ends with a newline, as its standard input."""
    mark = "END"
    while mark in text.splitlines():
        mark += "_"
    return f"{command} <<'{mark}'\n{text}{mark}"


def file(path: str, text: str) -> str:
    """Shell lines that write a file of this content."""
    return heredoc(f"cat > {shlex.quote(path)}", text)


def environment(given: Sequence[str], ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of `--env=NAME=VALUE` and `--env=NAME`.

    Raises:
      BadSetting: not a variable's name, or one that is not set here.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        shown = f"{name}=..." if equals else name  # the value may be a credential
        if not _NAME.fullmatch(name):
            raise BadSetting("--env", shown, "write NAME=VALUE, or NAME to pass on a variable that is set here")
        if not equals and name not in ours:
            raise BadSetting("--env", name, f"{name} is not set here; write {name}=VALUE")
        found[name] = value if equals else ours[name]
    return found


def is_credential(name: str) -> bool:
    """Whether a variable of this name is never printed or written to a file that stays."""
    return _CREDENTIAL.search(name) is not None


def assignments(variables: Mapping[str, str]) -> list[str]:
    """`NAME=value`, quoted; credentials as `NAME="$NAME"`, so that the line can be pasted and shows nothing."""
    return [f'{n}="${n}"' if is_credential(n) else f"{n}={shlex.quote(v)}" for n, v in variables.items()]
