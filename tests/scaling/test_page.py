"""The two dresses of a document: nothing is lost or taken for markup, and the page needs no other file."""

import base64
import re
from html.parser import HTMLParser

import pytest

from vit_jax.scaling.page import Picture, Section, Table, write_pages

PNG = b"\x89PNG\r\n\x1a\nnot really"
NASTY = "a|b <script>alert('x')</script> *c* & [d] `e`"


@pytest.fixture
def written(tmp_path):
    (tmp_path / "p.png").write_bytes(PNG)
    table = Table(["name", "value", "error"], [["x_1", "12", NASTY]], words=("error",))
    sections = [Section("One & <two>", ["text", table]), Section("Three", [Picture(tmp_path / "p.png", NASTY)])]
    return [path.read_text() for path in write_pages(tmp_path, "r", "Title <b>", sections)]


class Reader(HTMLParser):
    """Collects tags, links and text, and checks that tags close."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text, self.sources, self.alts = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]
        self.alts += [value for key, value in attrs if key == "alt"]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_in_itself(written):
    reader = Reader()
    reader.feed(written[1])
    assert reader.open == []
    (source,) = reader.sources
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PNG
    assert not re.search(r"https?://|@import|url\(", written[1])


def test_text_is_never_taken_for_markup(written):
    reader = Reader()
    reader.feed(written[1])
    assert "script" not in reader.tags
    assert reader.text.count(NASTY) == 2  # the cell and the caption
    assert reader.alts == [NASTY]
    assert "One & <two>" in reader.text
    assert "Title <b>" in reader.text


def test_the_markdown_has_the_same_and_links_its_pictures(written):
    lines = written[0].splitlines()
    assert lines[0] == r"# Title \<b>"
    assert "| name | value | error |" in lines
    assert "| --- | ---: | --- |" in lines
    (row,) = (line for line in lines if line.startswith("| x_1"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert row.replace("\\", "") == f"| x_1 | 12 | {NASTY} |"
    assert lines[-1].endswith("](p.png)")


def test_both_follow_dark_mode_or_the_viewer(written):
    assert "prefers-color-scheme: dark" in written[1]
