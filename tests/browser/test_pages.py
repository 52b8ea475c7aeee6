"""Pages are opened in Chromium, which has no network: pictures are there, on a desk, on a phone and in the dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vit_jax.inspect import pictures
from vit_jax.inspect.drawing import new_figure, to_png
from vit_jax.pages import Picture, Section, Table, html_page
from vit_jax.scaling import write_report

from ..inspect.constructed import images, make
from ..models.reference import random_params
from ..scaling.studies import the_papers_study
from .chromium import Tab, browser, find

pytestmark = pytest.mark.browser

SIZES = "[...document.images].map(i => [i.complete, i.naturalWidth])"
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
BACK = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = find()
    assert program, "no Chromium here: make browser installs it"
    with browser(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a model with everything."""
    model = make(registers=1, depth=3)
    folder = tmp_path_factory.mktemp("album")
    return pictures(model, random_params(model), images(model, 4), folder, about={"checkpoint": "w" * 200}).page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with eighteen runs, by seven evaluations."""
    records = [{"step": step, "loss": 1 / step, "eval/accuracy": 0.5} for step in range(1, 51)]
    study = the_papers_study(seconds=5025.0, device_days=700.0, records=records)
    return write_report(study, tmp_path_factory.mktemp("report"), paper=True).files[0]


def screen(tab: Tab, width: int, dark: bool = False) -> None:
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    scheme = "dark" if dark else "light"
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def test_every_picture_of_an_album_is_shown_without_a_network(tab, album):
    screen(tab, 1000)
    tab.open(album)
    shown = tab.evaluate(SIZES)
    files = list(album.parent.glob("*.png"))
    assert len(shown) == len(files) == 9
    assert all(complete and width > 300 for complete, width in shown)
    assert tab.requests.pop(0) == album.as_uri()
    assert {address.partition(":")[0] for address in tab.requests} == {"data"}
    assert not tab.complaints
    assert tab.evaluate("document.title") == "Inside mu/4"


def test_every_picture_of_a_report_is_shown_without_a_network(tab, report):
    screen(tab, 1000)
    tab.open(report)
    shown = tab.evaluate(SIZES)
    assert len(shown) == len(list(report.parent.glob("*.png"))) == 8
    assert all(complete and width > 1000 for complete, width in shown)
    assert tab.requests.pop(0) == report.as_uri()
    assert {address.partition(":")[0] for address in tab.requests} == {"data"}
    assert not tab.complaints
    text = tab.evaluate("document.body.innerText")
    assert "ViTs need" in text
    assert "R152x2" in text


@pytest.mark.parametrize("width", [360, 1000])
@pytest.mark.parametrize("page", ["album", "report"])
def test_nothing_is_wider_than_the_screen(tab, page, request, width):
    screen(tab, width)
    tab.open(request.getfixturevalue(page))
    content, visible = tab.evaluate(WIDTHS)  # on a desk the scroll bar takes some
    assert content == visible <= width
    assert tab.evaluate("Math.max(...[...document.images].map(i => i.getBoundingClientRect().right))") <= width


def test_dark_rooms_have_a_dark_page(tab, album):
    screen(tab, 1000)
    tab.open(album)
    assert tab.evaluate(BACK) == "rgb(255, 255, 255)"
    screen(tab, 1000, dark=True)
    red, green, blue = map(int, tab.evaluate(BACK).removeprefix("rgb(").rstrip(")").split(","))
    assert max(red, green, blue) < 64
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(228, 231, 234)"


def test_links_lead_to_sections_and_wide_tables_scroll_by_themselves(tab, tmp_path):
    path = tmp_path / "page.html"
    table = Table([f"column {i}" for i in range(40)], [[f"{i}.25" for i in range(40)]])
    picture = Picture(to_png(new_figure(3, 9)), "tall")
    path.write_text(html_page("<b>T</b>", [Section("A", [picture]), Section("B", [table, picture])]), encoding="utf-8")
    screen(tab, 390)
    tab.open(path)
    assert tab.evaluate("document.querySelector('h1').textContent") == "<b>T</b>"
    assert tab.evaluate(WIDTHS) == [390, 390]
    assert tab.evaluate("(w => w.scrollWidth > 2 * w.clientWidth)(document.querySelector('.wide'))")
    tab.evaluate("document.querySelectorAll('nav a')[1].click()")
    assert tab.evaluate("scrollY > 0 && location.hash === '#s2'")


def test_a_page_that_asks_for_something_would_be_noticed(tab, tmp_path):
    """The instrument can fail: a broken picture, one from elsewhere, and a script that the page's policy stops."""
    path = tmp_path / "page.html"
    more = '<img src="data:image/png;base64,AAAA"><img src="http://example.org/a.png"><script>document.title=1</script>'
    page = html_page("T", [Section("A", [])])
    path.write_text(page.replace("</body>", more + "</body>"), encoding="utf-8")
    tab.open(path)
    assert [width for _, width in tab.evaluate(SIZES)] == [0, 0]
    assert tab.evaluate("document.title") == "T"
    assert sum("Content Security Policy" in text for text in tab.complaints) == 2
    path.write_text(path.read_text(encoding="utf-8").replace("Content-Security-Policy", "x-nothing"), encoding="utf-8")
    tab.open(path)
    assert "http://example.org/a.png" in tab.requests
