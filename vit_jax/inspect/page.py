"""A web page of text, pictures and tables in one file: no scripts, nothing loaded from elsewhere, light or dark."""

import base64
import dataclasses
import html
import re
import struct
from collections.abc import Sequence
from typing import TypeAlias

_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d*)?(e[-+]?\d+)?( ?%)?|-?", re.ASCII)
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG.

    Attributes:
      png: its bytes.
      alt: what it shows, in one sentence, for those who cannot see it.
      caption: below it.
    """

    png: bytes
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise ValueError(f"the picture of {self.alt!r} is no PNG")


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text and numbers; a column of nothing but numbers is set to the right.

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
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


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


def _table(table: Table) -> str:
    cells = [[cell if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in table.rows]
    right = [all(_NUMBER.fullmatch(row[i]) for row in cells) for i in range(len(table.header))]

    def line(tag: str, row: Sequence[str]) -> str:
        start = {True: f'<{tag} class="n">', False: f"<{tag}>"}
        each = (f"{start[to_right]}{_text(cell)}</{tag}>" for cell, to_right in zip(row, right, strict=True))
        return f"<tr>{''.join(each)}</tr>"

    caption = f"<figcaption>{_text(table.caption)}</figcaption>" if table.caption else ""
    head = f"<thead>{line('th', table.header)}</thead>" if any(table.header) else ""
    body = "\n".join(line("td", row) for row in cells)
    return f'<figure>{caption}<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div></figure>'


# The browser itself then refuses whatever is not in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { --back: #fff; --text: #1d2126; --faint: #5c6670; --line: #d8dde2; --link: #0b5cad; --code: #f0f2f4; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181c; --text: #e4e7ea; --faint: #9aa4ae; --line: #343a41; --link: #7cb7ff; --code: #22272d; }
  img { filter: brightness(.9); }
}
* { box-sizing: border-box; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; background: var(--back); color: var(--text);
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
