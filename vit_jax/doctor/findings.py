"""What a check says."""

import dataclasses
from collections.abc import Callable
from typing import Any

from vit_jax.errors import UserError, one_line


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
      check: what was looked at.
      found: in words, one line.
      fix: what to do about it; empty where all is well.
      numbers: the same for programs, with units in the names.
      process: of the job, on which it was found; None where it concerns the job as a whole.
    """

    check: str
    found: str
    fix: str = ""
    numbers: dict[str, Any] = dataclasses.field(default_factory=dict)
    process: int | None = None

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.fix

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def attempt(check: str, look: Callable[[], Finding]) -> Finding:
    """Looks; an error is a finding, too, so that the other checks still happen."""
    try:
        return look()
    except UserError as error:
        return Finding(check, "failed", str(error))
    except Exception as error:  # whatever it is, the person wants to know of it, and the rest
        return Finding(check, "failed", f"{one_line(error)}: see that `{check}` works without vit_jax, too")
