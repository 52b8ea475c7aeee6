"""The page writer: one file, nothing loaded, text escaped, pictures and tables whole; and the same as Markdown."""

import base64
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.inspect.drawing import new_figure, to_png
from vit_jax.pages import Picture, Section, Table, html_page, markdown_page, text_table

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag != "code":
            self.words.append(" ")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def png():
    return to_png(new_figure(2, 1))


def test_pictures_are_in_the_page_byte_for_byte(png):
    page = Page(html_page("Title", [Section("One", [Picture(png, "a figure", "what it is")])]))
    (image,) = page.all("img")
    kind, _, data = image["src"].partition(",")
    assert (kind, base64.b64decode(data)) == ("data:image/png;base64", png)
    assert (image["alt"], image["width"], image["height"]) == ("a figure", "240", "120")
    assert "what it is" in page.text


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(png):
    text = html_page("T", [Section("A", ["see https://example.org", Picture(png, "p")]), Section("B", [])])
    page = Page(text)
    assert not page.all("script") + page.all("link")
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_it_suits_phones_and_dark_rooms():
    text = html_page("T", [])
    metas = {meta.get("name"): meta.get("content") for meta in Page(text).all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == "light dark"
    assert "prefers-color-scheme: dark" in text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_comes_back_as_it_was(text):
    table = Table(["head"], [[text]], text)
    page = Page(html_page(text, [Section(text, [text, table])], [text]))
    plain = re.sub(r"`([^`]+)`", r"\1", text)
    # Title of the tab; headline, lead, section, paragraph, caption; the table.
    assert page.text.split() == f"{text} {' '.join([plain] * 5)} head {plain}".split()


def test_backticks_are_code():
    page = html_page("T", [Section("S", ["run `vit_jax <verb>` twice"])])
    assert "run <code>vit_jax &lt;verb&gt;</code> twice" in page


def test_several_sections_are_listed_with_links_that_lead_there():
    page = Page(html_page("T", [Section("First", ["a"]), Section("Second", ["b"])]))
    targets = [link["href"] for link in page.all("a")]
    assert targets == [f"#{section['id']}" for section in page.all("section")]
    assert len(targets) == 2
    assert not Page(html_page("T", [Section("Only", ["a"])])).all("a")


def test_numbers_are_set_to_the_right_and_text_to_the_left():
    rows = [
        ["B/16", 1_234_567, "84.15", "-", "3 %", "2.0 (1.6 to 2.5)", "0:01:02"],
        ["L/16", 2, "1e-3", "7", "x", "from 2", ""],
        ["H/14", 3, "failed", "", "y", "2.2 to 7.4", "5 of 9"],
    ]
    header = ["model", "images", "accuracy", "old", "mixed", "interval", "time"]
    page = Page(html_page("T", [Section("S", [Table(header, rows)])]))
    right = [attributes.get("class") == "n" for attributes in page.all("th")]
    assert right == [False, True, True, True, False, True, True]
    assert [attributes.get("class") == "n" for attributes in page.all("td")] == right * 3
    assert "1,234,567" in page.text


def test_a_table_may_be_without_head_or_rows():
    page = Page(html_page("T", [Section("S", [Table(["", ""], [["a", "b"]]), Table(["x"], [])])]))
    assert len(page.all("thead")) == 1


def test_what_is_no_png_is_refused():
    with pytest.raises(ValueError, match="'a photo' is no PNG"):
        Picture(b"\xff\xd8\xff", "a photo")


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="more or fewer cells"):
        Table(["a", "b"], [["1", "2"], ["3"]])


NASTY = "a|b <script>alert('x')</script> *c* & [d] \\ e"


def test_markdown_has_the_same_and_links_its_pictures(tmp_path, png):
    (tmp_path / "p.png").write_bytes(png)
    picture = Picture.read(tmp_path / "p.png", NASTY, "caption")
    assert picture.png == png
    table = Table(["name", "value", "error"], [["x_1", "12", NASTY]], "about")
    text = markdown_page("Title <b>", [Section("One", ["text", table]), Section("Two", [picture])], ["lead"])
    lines = text.splitlines()
    assert lines[0] == r"# Title \<b>"
    assert {"lead", "## One", "text", "about", "## Two", "caption", "| --- | ---: | --- |"} <= set(lines)
    (row,) = (line for line in lines if line.startswith("| x_1"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert re.sub(r"\\(.)", r"\1", row) == f"| x_1 | 12 | {NASTY} |"
    assert f"]({picture.file})" in text
    assert picture.file == "p.png"


def test_code_is_code_in_markdown_too():
    text = markdown_page("T", [Section("S", ["run `vit_jax <a|b>`, not ` or *"])])
    assert r"run `vit_jax <a\|b>`, not \` or \*" in text


def test_a_table_for_a_terminal_has_its_columns_below_each_other():
    lines = text_table(Table(["model", "images"], [["B/16", 1000], ["R50+L/16", "7"]])).splitlines()
    assert lines == ["model     images", "B/16       1,000", "R50+L/16       7"]
