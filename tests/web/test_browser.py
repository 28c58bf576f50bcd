"""The pages in a real browser: nothing fails, nothing is fetched elsewhere, all can use them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import HOW_TO_INSTALL, Visitor, find_chromium, running_browser
from live_server import serving
from sites import MANY, Site
from vaults import open_local

from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app

PAGES = {
    "front": "/",
    "search": "/?q=probe",
    "storage": "/-/storage",
    "card": "/org/base",
    "files": "/org/base/tree/main",
    "text": "/org/base/blob/main/config.json",
    "weights": "/org/base/blob/main/model.safetensors",
    "tensors": "/org/base/tensors/main",
    "family": "/people/tune/family",
    "commits": "/people/tune/commits/dev%2Fx",
    "hostile": "/evil/card",
}
# Colours are those of a theme, and what fits is a matter of the width.
MODES = [
    ("light", "wide"),
    ("dark", "phone"),
    pytest.param("light", "phone", marks=pytest.mark.slow),
    pytest.param("dark", "wide", marks=pytest.mark.slow),
]

Visit = Callable[..., Visitor]


# Of this module only: while Playwright runs, other tests have no event loop of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if find_chromium() is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(HOW_TO_INSTALL)
    with running_browser() as started:
        yield started


@pytest.fixture
def visit(browser, site: Site) -> Iterator[Visit]:
    """Makes visitors; what happened to them must have been nothing bad."""
    visitors: list[Visitor] = []

    def make(theme: str = "light", width: str = "wide") -> Visitor:
        visitors.append(Visitor(browser, theme, width))
        return visitors[-1]

    yield make
    for visitor in visitors:
        assert visitor.faults == []
        assert visitor.foreign_requests(site.url) == []
        visitor.context.close()


@pytest.mark.parametrize(("theme", "width"), MODES)
def test_pages_work_in_light_and_dark_wide_and_narrow(
    visit: Visit, site: Site, theme: str, width: str
):
    visitor = visit(theme, width)
    for name, path in PAGES.items():
        page = visitor.see(site.url + path)
        visitor.keep(name)
        assert visitor.serious_faults() == [], name
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), name
        assert page.locator("h1").count() == 1, name


def test_search_and_pages_of_the_list(visit: Visit, site: Site):
    page = visit().see(site.url)
    assert page.locator("tbody tr").count() == 30
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Next").click()
    assert page.locator("tbody tr").count() == (MANY + 3) % 30
    page.get_by_label("Search models").fill("tune")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=tune")
    assert page.locator("tbody tr").count() == 1
    page.get_by_role("link", name="people/tune").click()
    assert page.get_by_role("heading", level=1).inner_text() == "people/tune"
    page.get_by_role("link", name="Family").click()
    assert page.locator(".kin.here").inner_text().startswith("people/tune")


def test_the_keyboard_is_enough(visit: Visit, site: Site):
    page = visit().see(site.url + "/people/tune")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    summary = page.locator(".menu summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dev%2Fx")


def test_the_theme_is_chosen_and_kept(visit: Visit, site: Site):
    page = visit("dark").see(site.url)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Theme").click()
    assert page.get_by_role("button", name="Theme: light").is_visible()
    assert page.evaluate(ground) != dark
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate(ground) == dark


def test_charts_are_drawn_and_can_be_saved(visit: Visit, site: Site):
    page = visit().see(site.url + "/-/storage")
    drawn = page.locator("figure.chart").count()
    assert drawn >= 5
    assert page.evaluate("document.documentElement.dataset.charts") == str(drawn)
    # More than one colour: the canvas is not empty.
    colours = """c => new Set(new Uint32Array(
        c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"""
    for canvas in page.locator("figure canvas").all():
        assert canvas.evaluate(colours) > 3
        assert canvas.get_attribute("aria-label")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as PNG: From logical").click()
    assert download.value.suggested_filename == "figure-waterfall.png"
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    page.get_by_text("Numbers").first.click()
    assert page.get_by_role("table").first.is_visible()


def test_pages_work_without_scripts(browser, site: Site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url + "/-/storage")
    page.get_by_text("Numbers").first.click()
    assert "logical" in page.get_by_role("table").first.inner_text()
    context.close()


def test_a_hostile_card_does_nothing(visit: Visit, site: Site):
    visitor = visit()
    page = visitor.see(site.url + "/evil/card")
    title = page.title()
    for link in page.locator("article a").all():
        href = link.get_attribute("href")
        assert href is None or href.startswith("/")
    for text in ("handler", "html link", "broken link"):
        page.get_by_text(text, exact=True).first.click()
        page.wait_for_load_state("networkidle")
        page.goto(site.url + "/evil/card")
    assert page.title() == title
    assert page.locator("article :is(script, iframe, form, input, style, svg)").count() == 0
    assert page.get_by_role("main").count() == 1
    # What the policy would have stopped is not even there to be stopped.
    assert visitor.faults == []


def test_images_of_a_card_are_those_of_its_repo(visit: Visit, site: Site):
    page = visit().see(site.url + "/org/base")
    image = page.get_by_role("img", name="a picture")
    assert image.evaluate("image => image.naturalWidth") == 60
    # Of the other one, its words are left.
    assert page.locator("article img").count() == 1
    assert page.get_by_text("another", exact=True).is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_signing_in_and_out(visit: Visit, tmp_path: Path, theme: str):
    vault = open_local(tmp_path / "vault")
    token = create_token(vault, "reader", "read").secret
    visitor = visit(theme)
    with serving(create_app(vault)) as url:
        page = visitor.see(url + "/?q=x")
        page.get_by_role("link", name="Sign in").first.click()
        visitor.keep("sign-in")
        assert visitor.serious_faults() == []
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Sign out").wait_for()
        assert page.url == url + "/?q=x"
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("link", name="Sign in").first.wait_for()
        assert visitor.foreign_requests(url) == []
        visitor.requests.clear()
    vault.close()
