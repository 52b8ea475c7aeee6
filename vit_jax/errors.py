"""What a person did wrong, said in one line, and how a run may end."""

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_DIVERGED = 3
EXIT_RESUMABLE = 42  # "stopped, run the same command again": the exit status XPK restarts on by default


class UserError(Exception):
    """Bad input. The message is one line that names the field, the value and the fix."""

    exit_code = EXIT_BAD_INPUT


class BadSetting(UserError):
    """A value of the config that cannot be used.

    Args:
      field: dotted name below the settings class that raises it, for example `variant`.
      value: what was found there.
      fix: what would be accepted.
    """

    def __init__(self, field: str, value: object, fix: str):
        super().__init__(f"{field} = {value!r}: {fix}")
        self.field, self.value, self.fix = field, value, fix

    def below(self, prefix: str) -> "BadSetting":
        """The same complaint, with the field named from further out."""
        return BadSetting(f"{prefix}.{self.field}", self.value, self.fix)


class Alone(UserError):
    """An error of this process only, in the middle of a job of several: it leaves without waiting for the others."""


class Diverged(Exception):
    """The loss, the gradient or the update is no longer finite."""

    exit_code = EXIT_DIVERGED


class Stopped(Exception):
    """The run was asked to stop, has saved its state and can be resumed."""

    exit_code = EXIT_RESUMABLE


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known word nearest to `word`, otherwise the list of known words."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
