"""The installed Chromium, and its pages, which must not log errors."""

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no chromium, chromium-browser or google-chrome on the path")


@contextmanager
def launched():
    """Yield a running Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def opened(browser, url, **options):
    """Yield a page of its own context; fail if it logs an error or requests another origin."""
    context = browser.new_context(**options)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if "Content Security" in message.text else None)
    origin = "/".join(url.split("/")[:3])
    page.on("request", lambda request: troubles.append(request.url) if not request.url.startswith(origin) else None)
    page.goto(url)
    yield page
    context.close()
    assert [trouble for trouble in troubles if not trouble.startswith("data:")] == []
