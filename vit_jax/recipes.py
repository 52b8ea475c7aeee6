"""What the shipped configs promise: their arguments, and the table of published results in each docstring."""

import ast
import dataclasses
from pathlib import Path
from typing import Any

from vit_jax.config_files import SHIPPED
from vit_jax.errors import did_you_mean

_HEADER = ("argument", "published", "source", "hardware and time")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of a config's table.

    Attributes:
      config: the file, as `--config` takes it.
      argument: what follows its colon; empty for none.
      published: the result that others report for it.
      source: where.
      cost: hardware and time, as far as they are known.
      title: first line of the config's docstring.
    """

    config: str
    argument: str
    published: str
    source: str
    cost: str
    title: str

    @property
    def name(self) -> str:
        """`configs/pretrain.py:B/16,jft`."""
        return f"{self.config}:{self.argument}" if self.argument else self.config


def parse_argument(argument: str, *positional: str, **options: Any) -> dict[str, Any]:
    """Reads the argument of a config: `B/16,imagenet21k,epochs=30,fewshot`.

    Args:
      argument: values joined by commas: first those without a name, then `option=value`; a bare name turns on an option
        that is False.
      *positional: names of the first values, all needed.
      **options: names and defaults of the others; a value has the type of its default.

    Returns:
      {name: value} of all.

    Raises:
      ValueError: something is missing, unknown or of another type.
    """
    parts = [part.strip() for part in argument.split(",") if part.strip()]
    if len(parts) < len(positional) or any("=" in part for part in parts[: len(positional)]):
        raise ValueError(f"needs {', '.join(f'<{name}>' for name in positional)}")
    found: dict[str, Any] = {**options, **dict(zip(positional, parts, strict=False))}
    for part in parts[len(positional) :]:
        name, given, value = part.partition("=")
        if name not in options:
            raise ValueError(f"unknown option {name}; {did_you_mean(name, options)}")
        if not given and options[name] is not False:
            raise ValueError(f"write {name}=<value>")
        try:
            found[name] = type(options[name])(value) if given else True
        except ValueError:
            raise ValueError(f"{name}={value} must be {type(options[name]).__name__}") from None
    return found


def list_recipes() -> list[Recipe]:
    """All rows of all shipped configs, in the order of the files."""
    return [recipe for path in sorted(SHIPPED.rglob("*.py")) for recipe in read_recipes(path)]


def read_recipes(path: Path) -> list[Recipe]:
    """The rows of a config file's table; none if it has no table. The file is not run.

    Raises:
      ValueError: a row has not the four columns.
    """
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if "|" in line]
    if not rows:
        return []
    if tuple(rows[0]) != _HEADER:
        raise ValueError(f"{path}: the table must begin with | {' | '.join(_HEADER)} |")
    config = f"configs/{path.relative_to(SHIPPED).as_posix()}" if path.is_relative_to(SHIPPED) else str(path)
    recipes = []
    for row in rows[1:]:
        if len(row) != len(_HEADER):
            raise ValueError(f"{path}: {row} has not {len(_HEADER)} columns")
        argument, published, source, cost = row
        argument = "" if argument == "-" else argument
        recipes.append(Recipe(config, argument, published, source, cost, text.partition("\n")[0]))
    return recipes
