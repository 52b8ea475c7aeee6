"""What a person did wrong, said in one line, and how a run may end."""

import difflib
import os
import re
from collections.abc import Iterable

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_DIVERGED = 3
EXIT_UNSAVED = 4
EXIT_RESUMABLE = 42  # "stopped, run the same command again": the exit status XPK restarts on by default
EXIT_ABORTED = 134  # that of SIGABRT, with which JAX ends a process whose peer is lost; launchers start it again


class UserError(Exception):
    """Bad input. The message is one line that names the field, the value and the fix."""

    exit_code = EXIT_BAD_INPUT
    alone = False  # whether it may concern one process of a job only, which then ends the others, too


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

    alone = True


class Diverged(Exception):
    """The loss, the gradient or the update is no longer finite."""

    exit_code = EXIT_DIVERGED
    alone = False


class Unsaved(Exception):
    """Something of the run could not be written, for example because the disk is full."""

    exit_code = EXIT_UNSAVED
    alone = True


class Stopped(Exception):
    """The run was asked to stop, has saved its state and can be resumed."""

    exit_code = EXIT_RESUMABLE
    alone = False


def out_of_memory(error: BaseException) -> Alone | None:
    """What JAX says when an allocation fails, or the compiler sees that it would; None for other errors."""
    if type(error).__name__ != "JaxRuntimeError" or "RESOURCE_EXHAUSTED" not in str(error):
        return None
    said = " ".join(str(error).split()).partition("RESOURCE_EXHAUSTED: ")[2][:200]
    return Alone(
        f"no memory left on the device ({said}): take a smaller batch (config.train.batch_size, --batch_size); to "
        "train, more config.train.micro_batches or config.model.remat=full need less, too"
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known word nearest to `word`, otherwise the list of known words."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"


def one_line(error: BaseException) -> str:
    """The first 200 characters of an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def reason(error: BaseException) -> str:
    """Why something could not be written, in the system's words where it has some: `No space left on device`."""
    found = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's way to say it
    code = int(found[1]) if found else getattr(error, "errno", None)
    return os.strerror(code) if code else one_line(error)
