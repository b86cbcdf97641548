"""The pages in a real browser: for everybody (axe), by keyboard, without JavaScript, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from starlette.responses import HTMLResponse
from starlette.routing import Route

from backupguard.web.app import create_app
from backupguard.web.people import PATHS
from backupguard.web.published import Outputs
from tests.unit.web.conftest import empty, filled
from tests.unit.web.serving import serving
from tests.unit.web.test_pages import addresses

__all__ = ["empty", "filled"]

#: What axe calls them, worst last; the first two are no obstacle.
OBSTACLES = ("serious", "critical")
#: WCAG 2.1 AA, which RGAA 4.1 rests on, and axe's own habits (order of headings, landmarks).
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]},
    "resultTypes": ["violations"],
}  # fmt: skip
BROKEN = (
    "<html><title>x</title><body><img src='/x.png'><p style='color:#ccc'>pale</p></body></html>"
)


async def broken(_request: object) -> HTMLResponse:
    return HTMLResponse(BROKEN)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page whose browser complains of nothing: no blocked style, no missing file, no error."""
    made = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    made.on("console", lambda message: said.append(message.text))
    made.on("pageerror", lambda error: said.append(str(error)))
    yield made
    made.close()
    assert said == []


@pytest.fixture(scope="module")
def full_url(filled: Outputs) -> Iterator[str]:
    app = create_app(filled)
    app.router.routes.append(Route("/broken", broken))
    with serving(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def empty_url(empty: Outputs) -> Iterator[str]:
    with serving(create_app(empty)) as port:
        yield f"http://127.0.0.1:{port}"


def obstacles(page: Page) -> list[str]:
    """Return what keeps somebody from reading the page that is open."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [
        f"{one['id']}: {[node['target'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in OBSTACLES or one["id"] == "heading-order"
    ]


def in_order(page: Page) -> bool:
    """Tell whether headings begin with one of the first level and skip none."""
    levels = [
        int(tag[1])
        for tag in page.locator("h1,h2,h3,h4").evaluate_all("e => e.map(x => x.tagName)")
    ]
    return levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))


def test_the_look_for_obstacles_finds_them(browser: Browser, full_url: str) -> None:
    made = browser.new_page(bypass_csp=True)
    made.goto(f"{full_url}/broken")
    found = " ".join(obstacles(made))
    made.close()
    for rule in ("image-alt", "html-has-lang", "color-contrast"):
        assert rule in found, found


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_page_is_for_everybody(
    page: Page, filled: Outputs, full_url: str, language: str
) -> None:
    for path in addresses(filled):
        page.goto(f"{full_url}{path}?lang={language}")
        assert obstacles(page) == [], path
        assert in_order(page), path


@pytest.mark.parametrize("language", ["fr", "en"])
def test_a_site_that_begins_is_for_everybody_too(page: Page, empty_url: str, language: str) -> None:
    for path in (one for one in PATHS if "{" not in one):
        page.goto(f"{empty_url}{path}?lang={language}")
        assert obstacles(page) == [], path
        assert in_order(page), path


def test_it_is_read_in_the_dark(browser: Browser, full_url: str) -> None:
    made = browser.new_page(color_scheme="dark")
    for path in ("/", "/applications/dpi/calendar"):
        made.goto(f"{full_url}{path}")
        assert obstacles(made) == [], path
    made.close()


def test_who_has_only_a_keyboard_sees_where_they_are(page: Page, full_url: str) -> None:
    page.goto(f"{full_url}/findings/")
    seen = []
    for _ in range(16):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.tagName, s.outlineStyle, parseFloat(s.outlineWidth)] }"
            )
        )
    assert {tag for tag, _, _ in seen} >= {"A", "SELECT", "BUTTON"}
    assert all(style == "solid" and width >= 2 for _, style, width in seen), seen


def test_without_javascript_one_chooses_and_reads(browser: Browser, full_url: str) -> None:
    context = browser.new_context(java_script_enabled=False, locale="fr-FR")
    made = context.new_page()
    made.goto(f"{full_url}/findings/")
    made.select_option("#status", "non_compliant")
    made.click("button")
    assert "status=non_compliant" in made.url
    assert "lang=fr" in made.url
    body = made.inner_text("tbody")
    assert "non conforme" in body
    assert "Labo <script>alert(1)</script>" in body
    assert "✓" not in body
    made.click("nav.pages >> text=Tests de restauration")
    made.click("tbody th a >> nth=0")
    assert "Test de restauration" in made.inner_text("h1")
    context.close()


def test_on_paper_there_is_no_navigation(page: Page, full_url: str) -> None:
    page.goto(f"{full_url}/applications/dpi/calendar")
    page.emulate_media(media="print")
    assert not page.locator("nav.pages").is_visible()
    assert page.locator("table.calendar").is_visible()
    # twelve months and thirty-one days fit across a sheet of 273 mm, at 96 pixels an inch
    width = page.locator("table.calendar").evaluate("e => e.scrollWidth")
    page.emulate_media(media="screen")
    assert width <= 1032
