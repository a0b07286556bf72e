"""Pages in a real browser: tabs that take down what goes wrong in them and what they ask the network for.

`playwright` runs a loop of its own on the thread that starts it, so that no `asyncio.run` works there; whatever needs one
runs on another thread.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

import doubleweave as dw

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Yield a browser; where there is none the test is skipped, but fails in CI."""
    path = next((found for name in NAMES if (found := shutil.which(name)) is not None), None)
    if path is None:
        reason = f"no browser: install Chromium (Debian: apt-get install chromium) as one of {', '.join(NAMES)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)  # of a machine without a browser; CI fails above
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page in the browser, what went wrong in it, and what it asked the network for but for itself."""

    page: Page
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        """Return what is to be read in the first element, on one line."""
        return " ".join(self.page.locator(selector).first.inner_text().split())

    def texts(self, selector: str) -> list[str]:
        """Return what is to be read in each element."""
        return [" ".join(text.split()) for text in self.page.locator(selector).all_inner_texts()]

    def rows(self) -> list[list[str]]:
        """Return what is to be read in the cells of each row of the table that is there."""
        # Found and read at once: the page makes rows anew while a run goes on.
        script = """() => [...document.querySelectorAll('#body .row')].map(row => [...row.children]
            .filter(cell => cell.getClientRects().length)
            .map(cell => cell.innerText.replace(/\\s+/g, ' ').trim()))"""
        found: list[list[str]] = self.page.evaluate(script)
        return found

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def open(self, name: str) -> None:
        """Open the details of the step with this name."""
        self.page.locator("#body .row", has_text=name).first.click()

    def section(self, title: str) -> str:
        """Return what stands below a heading of the details."""
        script = """(title) => {
            const heading = [...document.querySelectorAll('#detail h3')].find(each => each.textContent === title);
            return heading ? heading.nextElementSibling.innerText : null;
        }"""
        found: str = self.page.evaluate(script, title)
        return found

    def selected(self) -> str:
        """Return the place and the name of the step that is chosen, as assistive technology is told."""
        id = self.page.locator("#grid").get_attribute("aria-activedescendant")
        return "" if id is None else " ".join(self.texts(f"[id='{id}'] > :nth-child(-n+2)"))

    def focused(self) -> str:
        """Return the id, or else the label, of the element that has the focus."""
        active = "document.activeElement"
        found: str = self.page.evaluate(f"{active}.id || {active}.getAttribute('aria-label') || {active}.tagName")
        return found


@contextmanager
def open_tab(browser: Browser, url: str, *, may_ask: str | None = None, **settings: Any) -> Iterator[Tab]:
    """Yield a tab that shows a page; at its end nothing has gone wrong in it, and nothing was asked for elsewhere.

    Args:
        browser: The browser.
        url: The page.
        may_ask: What the addresses begin with that it may ask for, besides itself.
        settings: Of the tab, as `new_context` has them.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
    tab = Tab(context.new_page())

    def pass_on(route: Route) -> None:
        asked = route.request.url
        if asked == url or (may_ask is not None and asked.startswith(may_ask)):
            route.continue_()
            return
        tab.requests.append(asked)
        route.abort()

    context.route("**/*", pass_on)
    tab.page.on("console", lambda message: tab.troubles.append(f"{message.type}: {message.text}"))
    tab.page.on("pageerror", lambda error: tab.troubles.append(str(error)))
    tab.page.goto(url)
    try:
        yield tab
        assert tab.troubles == []
        assert tab.requests == []
    finally:
        context.close()


def file_url(path: Path, html: str) -> str:
    """Write a page to a file and return its address."""
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


# Every element with a text of its own and what its colours are, also in drawings.
CONTRASTS = """() => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = parse(colour).map(part => part / 255).map(
            part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const isSeen = (colour) => colour.startsWith('rgb') && (parse(colour)[3] ?? 1) === 1;
    const behind = (node) => {
        for (let each = node; each; each = each.parentElement) {
            const box = each.matches('g') ? each.querySelector('rect') : each.previousElementSibling?.matches('rect.label-back')
                ? each.previousElementSibling : null;
            const colour = box ? getComputedStyle(box).fill : getComputedStyle(each).backgroundColor;
            if (isSeen(colour)) return colour;
        }
    };
    const found = [];
    for (const node of document.querySelectorAll('body *')) {
        const own = [...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim());
        if (!own || node.matches('script, noscript, noscript *, title, option') || !node.getClientRects().length) continue;
        const style = getComputedStyle(node);
        const front = node instanceof SVGElement ? style.fill : style.color;
        const [high, low] = [light(front), light(behind(node))].sort((a, b) => b - a);
        const name = `${node.tagName}.${node.getAttribute('class') || node.id}`;
        found.push([(high + 0.05) / (low + 0.05), `${name}: ${node.textContent.slice(0, 30)}`]);
    }
    return found;
}"""


class Shown:
    """Shows runs as pages in tabs of their own, which are closed at the end of the test."""

    def __init__(self, browser: Browser, path: Path) -> None:
        self._browser = browser
        self._path = path

    def __call__(self, result: dw.ExecutionResult, **given: Any) -> Any:
        settings = {name: given.pop(name) for name in ("viewport", "color_scheme", "reduced_motion") if name in given}
        return open_tab(self._browser, file_url(self._path, dw.run_page(result, **given)), **settings)
