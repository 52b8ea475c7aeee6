"""The page writer: one file, nothing loaded, text escaped, pictures and tables whole."""

import base64
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_jax.inspect import Picture, Section, Table, html_page
from vit_jax.inspect.drawing import new_figure, to_png

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
    rows = [["B/16", 1_234_567, "84.15", "-", "3 %"], ["L/16", 2, "1e-3", "7", "x"]]
    page = Page(html_page("T", [Section("S", [Table(["model", "images", "accuracy", "old", "mixed"], rows)])]))
    right = [attributes.get("class") == "n" for attributes in page.all("th")]
    assert right == [False, True, True, True, False]
    assert [attributes.get("class") == "n" for attributes in page.all("td")] == right * 2
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
