"""A real Chromium, without a window, that notes all that a page asks for and complains of."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 20_000  # for what the page is to show
# a profile of its own comes with each start
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Tab:
    """An open page. `errors`: of its scripts and its console, and requests that it was not allowed."""

    page: Page
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def elsewhere(self) -> list[str]:
        """What was asked of others than the page's own server."""
        own = urlsplit(self.page.url).netloc
        return [url for url in self.asked if urlsplit(url).netloc != own]

    async def texts(self, selector: str) -> list[str]:
        """The text of every such element, in the order of the document."""
        return await self.page.locator(selector).all_inner_texts()

    async def live(self) -> None:
        """Until the page has its data and follows what changes."""
        await expect(self.page.locator("body")).to_have_attribute("data-link", "live")


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Skips the test where there is no Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def a_tab(
    browser: Browser, url: str, *, scheme: Literal["light", "dark"] = "dark", width: int = 1600, height: int = 950
) -> AsyncIterator[Tab]:
    """A page of its own, with nothing remembered of others."""
    context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    tab = Tab(await context.new_page())
    tab.page.on("request", lambda request: tab.asked.append(request.url))
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.on("console", lambda line: tab.errors.append(line.text) if line.type in ("error", "warning") else None)
    try:
        await tab.page.goto(url)
        yield tab
    finally:
        await context.close()
