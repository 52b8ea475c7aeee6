"""`vit_jax recipes`."""

import dataclasses
import json
from collections.abc import Sequence

from vit_jax.cli import arguments

DESCRIPTION = """\
Lists the shipped recipes: what to pass to --config, the result that others published for it, and where it stands.

  vit_jax recipes
  vit_jax recipes finetune                 # those whose name has this in it
  vit_jax recipes --json"""


def main(argv: Sequence[str]) -> int:
    """Runs the verb."""
    parser = arguments.parser("recipes", DESCRIPTION)
    parser.add_argument("filter", nargs="?", default="", metavar="TEXT", help="only recipes with this in their name")
    parser.add_argument("--json", action="store_true", help="one JSON array on standard output")
    flags, overrides = arguments.parse(parser, argv)
    if overrides:
        parser.error(f"unknown argument {overrides[0]!r}: recipes are listed as they are")

    from vit_jax.errors import UserError
    from vit_jax.recipes import list_recipes

    found = [recipe for recipe in list_recipes() if flags.filter in recipe.name]
    if not found:
        raise UserError(f"no recipe has {flags.filter!r} in its name; vit_jax recipes lists all")
    if flags.json:
        print(json.dumps([{"name": recipe.name, **dataclasses.asdict(recipe)} for recipe in found]))
        return 0
    widths = [max(len(getattr(recipe, field)) for recipe in found) for field in ("argument", "published", "source")]
    config = ""
    for recipe in found:
        if recipe.config != config:
            config = recipe.config
            print(f"\n{config}  {recipe.title}")
        cells = zip((recipe.argument or "-", recipe.published, recipe.source), widths, strict=True)
        print("  " + "  ".join(f"{cell:<{width}}" for cell, width in cells) + f"  {recipe.cost}")
    return 0
