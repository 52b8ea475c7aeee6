"""A place's settings class is its command line: one field, one flag."""

import argparse
import dataclasses
import typing
from typing import Any, TypeVar

from vit_jax.errors import BadSetting

T = TypeVar("T")


def flag(default: T, about: str, metavar: str | None = None) -> T:
    """A field that is also a flag; a tuple may be given several times."""
    return dataclasses.field(default=default, metadata={"help": about, "metavar": metavar})


@dataclasses.dataclass(frozen=True)
class Shared:
    """Flags of every place."""

    max_restarts: int = flag(10, "starts again that often after exit status 42 or 128 to 255 (stopped, killed)", "N")
    env: tuple[str, ...] = flag((), "variable of every process, repeatable; NAME alone passes ours on", "NAME[=VALUE]")
    dry_run: bool = flag(False, "print everything that would be done, as a shell script, and do nothing")

    def __post_init__(self) -> None:
        check(self.max_restarts >= 0, "max_restarts", self.max_restarts, "must be at least 0")


def check(condition: object, field: str, value: object, fix: str) -> None:
    """Raises `BadSetting` unless the condition holds."""
    if not condition:
        raise BadSetting(field, value, fix)


def add(parser: argparse.ArgumentParser, settings: type) -> None:
    """Adds a flag for every field of the settings class."""
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        names = [f"--{field.name}"]
        if field.name == "dry_run":
            names.append("--dry-run")
        options: dict[str, Any] = {
            "default": field.default,
            "help": _literal(field.metadata["help"]),
            "dest": field.name,
        }
        if hints[field.name] is bool:
            options["action"] = "store_true"
        else:
            options["metavar"] = field.metadata["metavar"] or field.name.upper()
            if hints[field.name] in (int, float):
                options["type"] = hints[field.name]
            if typing.get_origin(hints[field.name]) is tuple:
                options["action"] = "append"
                options["default"] = None
            elif field.default:
                options["help"] += _literal(f" (default: {field.default})")
        parser.add_argument(*names, **options)


def _literal(text: str) -> str:
    return text.replace("%", "%%")  # argparse fills in help texts by %


def build(settings: type[T], values: argparse.Namespace) -> T:
    """The settings that were parsed.

    Raises:
      BadSetting: a value the class refuses; the message names the flag.
    """
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(values).items()}
    try:
        return settings(**{name: value for name, value in given.items() if value is not None})
    except BadSetting as error:
        raise BadSetting(f"--{error.field}", error.value, error.fix) from None
