"""One document in two dresses: Markdown beside its pictures, and an HTML page that holds all of them itself."""

import base64
import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text; the first column is aligned left, the others right, unless `words` says that they are words.

    Attributes:
      header: of the columns.
      rows: as long as the header each.
      words: headers of columns that are aligned left.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()

    def left(self, column: int) -> bool:
        """Whether a column is aligned left."""
        return column == 0 or self.header[column] in self.words


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG in the folder of the document.

    Attributes:
      path: of the file.
      caption: what is to be seen.
    """

    path: Path
    caption: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it: text, tables, pictures."""

    title: str
    blocks: Sequence[str | Table | Picture]


def write_pages(folder: Path, name: str, title: str, sections: Sequence[Section]) -> list[Path]:
    """Writes `<name>.md` and `<name>.html` into a folder.

    Args:
      folder: where the pictures are, too.
      name: of both files, without ending.
      title: of the document.
      sections: in order.

    Returns:
      The two files.
    """
    markdown, page = folder / f"{name}.md", folder / f"{name}.html"
    markdown.write_text(_markdown(title, sections), encoding="utf-8")
    page.write_text(_html(title, sections), encoding="utf-8")
    return [markdown, page]


def _markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {_plain(title)}"]
    for section in sections:
        parts.append(f"## {_plain(section.title)}")
        for block in section.blocks:
            if isinstance(block, Table):
                parts.append(_markdown_table(block))
            elif isinstance(block, Picture):
                parts.append(f"![{_plain(block.caption)}]({block.path.name})")
            else:
                parts.append(_plain(block))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    rule = ["---" if table.left(i) else "---:" for i in range(len(table.header))]
    cells = [[_plain(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for mark in "\\`*[]<|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _html(title: str, sections: Sequence[Section]) -> str:
    body = "\n".join(_html_section(section) for section in sections)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html_section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    for block in section.blocks:
        if isinstance(block, Table):
            parts.append(_html_table(block))
        elif isinstance(block, Picture):
            data = base64.b64encode(block.path.read_bytes()).decode()
            caption = html.escape(block.caption)
            picture = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
            parts.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
        else:
            parts.append(f"<p>{html.escape(block)}</p>")
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        sides = ["left" if table.left(i) else "right" for i in range(len(cells))]
        texts = [f'<{tag} class="{s}">{html.escape(c)}</{tag}>' for s, c in zip(sides, cells, strict=True)]
        return f"<tr>{''.join(texts)}</tr>"

    rows = "\n".join(row(cells, "td") for cells in table.rows)
    return f'<div class="wide"><table>\n<thead>{row(table.header, "th")}</thead>\n<tbody>{rows}</tbody>\n</table></div>'


_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #ffffff; --band: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d; --back: #0d1117; --band: #151b23; }
}
body { margin: 2rem auto; padding: 0 1.2rem; max-width: 76rem; color: var(--text); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
figure { margin: 1.2rem 0; } figcaption { color: var(--soft); font-size: 0.85rem; max-width: 52rem; }
img { max-width: 100%; background: #ffffff; border-radius: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody tr:hover { background: var(--band); }
.left { text-align: left; white-space: normal; } .right { text-align: right; }
"""
