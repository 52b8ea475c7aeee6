"""Pages of text, pictures and tables for any room: a web page in one file, or Markdown beside its pictures.

The web page runs no script, loads nothing from elsewhere, and is light or dark as the reader's system is.
"""

import base64
import dataclasses
import html
import itertools
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

_ONE = r"[-+]?\d[\d,]*(\.\d*)?(e[-+]?\d+)?( ?%)?"
_NUMBER = re.compile(rf"{_ONE}(( to | of | \(|:){_ONE}\)?)*", re.ASCII)  # also `2.0 (1.6 to 2.5)` and `1:23:45`
_CODE = re.compile(r"`([^`]+)`")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG.

    Attributes:
      png: its bytes.
      alt: what it shows, in one sentence, for those who cannot see it.
      caption: below it.
      file: its name beside the page, for Markdown, which links it.
    """

    png: bytes
    alt: str
    caption: str = ""
    file: str = ""

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise ValueError(f"the picture of {self.alt!r} is no PNG")

    @staticmethod
    def read(path: Path, alt: str, caption: str = "") -> "Picture":
        """The picture in a file, which lies beside the page."""
        return Picture(path.read_bytes(), alt, caption, path.name)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text and numbers; a column of numbers, more than half of its filled cells, is set to the right.

    Attributes:
      header: names of the columns; all empty for a table without a head.
      rows: as many cells each: text, or numbers with the digits they should have.
      caption: above it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"rows of the table {self.caption!r} have more or fewer cells than {self.header}")


# A paragraph is plain text; what stands between backticks is set as code.
Part: TypeAlias = str | Picture | Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A headline and what is below it, in order."""

    title: str
    parts: Sequence[Part]


def html_page(title: str, sections: Sequence[Section], lead: Sequence[Part] = ()) -> str:
    """The page.

    Args:
      title: of the page, also of the browser's tab.
      sections: listed at the top by their titles if there are several.
      lead: what stands before the first section.
    """
    links = "".join(f'<li><a href="#s{i}">{_text(s.title)}</a></li>' for i, s in enumerate(sections, 1))
    contents = [f"<nav><ul>{links}</ul></nav>"] if len(sections) > 1 else []
    body = [f"<h1>{_text(title)}</h1>", *map(_part, lead), *contents]
    for i, section in enumerate(sections, 1):
        body += [f'<section id="s{i}">', f"<h2>{_text(section.title)}</h2>", *map(_part, section.parts), "</section>"]
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style>",
    ]
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>"]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text))


def _part(part: Part) -> str:
    if isinstance(part, Picture):
        return _picture(part)
    return _table(part) if isinstance(part, Table) else f"<p>{_text(part)}</p>"


def _picture(picture: Picture) -> str:
    width, height = struct.unpack(">II", picture.png[16:24])
    data = base64.b64encode(picture.png).decode()
    image = (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(picture.alt)}" width="{width}" height="{height}">'
    )
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{image}{caption}</figure>"


def _cells(table: Table) -> tuple[list[list[str]], list[bool]]:
    """(the rows as text, whether each column is set to the right)."""
    rows = [[cell if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in table.rows]
    filled = [[row[i] for row in rows if row[i] not in ("", "-")] for i in range(len(table.header))]
    return rows, [2 * sum(bool(_NUMBER.fullmatch(cell)) for cell in column) > len(column) for column in filled]


def _table(table: Table) -> str:
    cells, right = _cells(table)

    def line(tag: str, row: Sequence[str]) -> str:
        start = {True: f'<{tag} class="n">', False: f"<{tag}>"}
        each = (f"{start[to_right]}{_text(cell)}</{tag}>" for cell, to_right in zip(row, right, strict=True))
        return f"<tr>{''.join(each)}</tr>"

    caption = f"<figcaption>{_text(table.caption)}</figcaption>" if table.caption else ""
    head = f"<thead>{line('th', table.header)}</thead>" if any(table.header) else ""
    body = "\n".join(line("td", row) for row in cells)
    return f'<figure>{caption}<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div></figure>'


def markdown_page(title: str, sections: Sequence[Section], lead: Sequence[Part] = ()) -> str:
    """The same page as Markdown, which links the files of its pictures.

    Args:
      title: of the page.
      sections: in order.
      lead: what stands before the first section.
    """
    parts = [f"# {_plain(title)}", *map(_markdown_part, lead)]
    for section in sections:
        parts += [f"## {_plain(section.title)}", *map(_markdown_part, section.parts)]
    return "\n\n".join(parts) + "\n"


def _markdown_part(part: Part) -> str:
    if isinstance(part, Picture):
        caption = f"\n\n{_plain(part.caption)}" if part.caption else ""
        return f"![{_plain(part.alt)}]({part.file}){caption}"
    return _markdown_table(part) if isinstance(part, Table) else _plain(part)


def _markdown_table(table: Table) -> str:
    cells, right = _cells(table)
    rule = ["---:" if to_right else "---" for to_right in right]
    rows = [[_plain(cell) for cell in row] for row in (table.header, *cells)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
    return f"{_plain(table.caption)}\n\n{lines}" if table.caption else lines


def text_table(table: Table) -> str:
    """The table for a terminal: columns two spaces apart, aligned like those of the pages."""
    cells, right = _cells(table)
    rows = [list(table.header), *cells]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]

    def line(row: Sequence[str]) -> str:
        padded = (f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in zip(row, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, rows))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is; what stands between backticks stays code, as on the web page."""
    pieces = _CODE.split(" ".join(text.split()))  # every other one is code
    escaped = (re.sub(r"([\\`*\[\]<|])", r"\\\1", piece) for piece in pieces[::2])
    code = (f"`{piece.replace('|', chr(92) + '|')}`" for piece in pieces[1::2])
    return "".join(itertools.chain.from_iterable(itertools.zip_longest(escaped, code, fillvalue="")))


# The browser itself then refuses whatever is not in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { --back: #fff; --text: #1d2126; --faint: #5c6670; --line: #d8dde2; --link: #0b5cad; --code: #f0f2f4; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181c; --text: #e4e7ea; --faint: #9aa4ae; --line: #343a41; --link: #7cb7ff; --code: #22272d; }
  img { filter: brightness(.9); }
}
* { box-sizing: border-box; }
body { max-width: 70rem; margin: 0 auto; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; padding-top: .6rem; border-top: 1px solid var(--line); }
p { max-width: 44rem; }
a { color: var(--link); }
code { background: var(--code); padding: .1em .3em; border-radius: 4px; font-size: .9em; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; padding: 0; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px;
  box-shadow: 0 0 0 1px var(--line); }
figcaption { color: var(--faint); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
th, .n { white-space: nowrap; }
.n { text-align: right; }
"""
