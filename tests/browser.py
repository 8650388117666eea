"""A browser for the tests: Chromium, as it is installed here, driven by playwright."""

import shutil
from contextlib import contextmanager

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next((path for path in map(shutil.which, NAMES) if path), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def browser():
    """A running browser; skips the test, with the reason, where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed here"
    )
    if not CHROMIUM:
        pytest.skip("no Chromium is installed here")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def pages(running):
    """A function that opens a file at an address and a size; afterwards the consoles of all that
    were opened must have stayed empty, and nothing may have been asked of a network.
    """
    contexts, said = [], []

    def note(message):
        if "willReadFrequently" not in message.text:  # of canvases that a test reads back
            said.append(message.text)

    def opened(file, address="", width=1280, height=900, **settings):
        contexts.append(
            running.new_context(viewport={"width": width, "height": height}, **settings)
        )
        page = contexts[-1].new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
        page.goto(file.as_uri() + address)
        page.wait_for_selector("html[data-ready]", timeout=30_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not said, said


def until(page, expression, seconds=30):
    """Wait for an expression to hold; the page's own policy forbids playwright's way, eval."""
    for _ in range(20 * seconds):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not so after {seconds} s: {expression}")


def drawn(page):
    """Wait for two animation frames: what was done before is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def state(page):
    """What the explorer shows."""
    return page.evaluate("window.explorer.state")
