"""One idea for "which parameters": an ordered list of (pattern, value); the first match wins, all must match."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from vit_jax.errors import UserError

V = TypeVar("V")


def assign(names: Sequence[str], rules: Sequence[tuple[str, V]], what: str) -> dict[str, V]:
    """Gives each name the value of the first rule whose pattern matches the *whole* name.

    Args:
      names: parameter names such as `blocks/attn/query/kernel`.
      rules: (regular expression, value) in order of precedence.
      what: what the rules decide, for the error.

    Returns:
      {name: value} in the order of `names`.

    Raises:
      UserError: a pattern is no regular expression, or some name is matched by none.
    """
    compiled = []
    for pattern, value in rules:
        try:
            compiled.append((re.compile(pattern), value))
        except re.error as error:
            raise UserError(f"{what}: {pattern!r} is not a regular expression ({error})") from None
    result: dict[str, Any] = {}
    for name in names:
        matching = [value for pattern, value in compiled if pattern.fullmatch(name)]
        if not matching:
            raise UserError(f"{what}: no rule matches {name!r}; end the list with ('.*', <value>)")
        result[name] = matching[0]
    return result


def describe(assigned: dict[str, V]) -> str:
    """One line for the log: how many names got each value."""
    values = list(dict.fromkeys(assigned.values()))
    counts = [f"{sum(v == value for v in assigned.values())} parameters -> {value}" for value in values]
    return ", ".join(counts)
