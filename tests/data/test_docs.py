"""The tables of docs/data.md are what the code says. `python tests/data/test_docs.py` writes them anew."""

import inspect
import re
from pathlib import Path

import pytest

from vit_jax.data import catalog

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def _literal(value):
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def operations():
    """One line for each registered operation, from its signature and the first paragraph of its docstring."""
    pytest.importorskip("tensorflow")
    import vit_jax.data.preprocess  # noqa: F401  registers all of them
    from vit_jax.data.ops import HOST_OPS, LABEL_OPS, OPS

    kinds = {"record": [], "picture": [], "image": []}
    for name, function in OPS.items():
        kind = "record" if function in LABEL_OPS else "picture" if function in HOST_OPS else "image"
        given = list(inspect.signature(function).parameters.values())[2:]
        arguments = ", ".join(f"{p.name}={_literal(p.default)}" for p in given)
        about = inspect.getdoc(function).partition("\n\n")[0].replace("\n", " ")
        kinds[kind].append(f"| `{name}({arguments})` | {kind} | {about} |".replace("()`", "`"))
    rows = [row for kind in ("picture", "image", "record") for row in sorted(kinds[kind])]
    return "\n".join(["| operation | on | what it does |", "|---|---|---|", *rows])


def tasks():
    """One line for each task of the catalog."""
    rows = []
    for t in catalog.TASKS.values():
        allowed = ", ".join(kind for kind in ("flip", "crop") if getattr(t, kind) and t.train) or "-"
        data = (f"`{t.data}`" if t.data else "your own") + " (by hand)" * bool(t.manual)
        dev = f"`{t.dev_train}`, `{t.dev}`" if t.dev else "-"
        final = f"`{t.train}`, `{t.test}`" if t.train else f"`{t.test}`"
        rows.append(f"| {t.name} | {data} | {t.classes:,} | {dev} | {final} | {allowed} | {t.metric} |")
    head = "| task | data set | classes | dev: train, evaluate | final: train, evaluate | augmentation | metric |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


BLOCKS = {"operations": operations, "catalog": tasks}


def block(name):
    return re.compile(rf"(<!-- {name}: .*? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_table_is_what_the_code_says(name):
    assert block(name).search(DOCS.read_text(encoding="utf-8"))[2].strip() == BLOCKS[name]()


def test_every_verb_of_the_examples_exists():
    from vit_jax.__main__ import VERBS

    verbs = re.findall(r"^vit_jax (\w+)", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(verbs) <= set(VERBS)
    assert verbs


def write():
    """Writes all tables into docs/data.md."""
    text = DOCS.read_text(encoding="utf-8")
    for name, make in BLOCKS.items():
        before, found, after = text.partition(block(name).search(text)[0])
        text = before + block(name).search(found)[1] + make() + "\n<!-- end -->" + after
    DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
