"""A real browser for tests: Debian's Chromium, driven by Playwright, cut off from the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HOW_TO_INSTALL = "no Chromium: apt-get install chromium, or CHROMIUM=/path/to/it"

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Nothing but this machine has an address: what a page asks of others fails, and is seen.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
_WIDTHS = {"wide": 1280, "phone": 390}


def find_chromium() -> str | None:
    """Returns the path of Chromium, None where there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A headless browser; it ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(_ARGUMENTS), chromium_sandbox=False
        )
        yield browser
        browser.close()


class Visitor:
    """Looks at pages as one person would, and notes what a page must not do."""

    def __init__(self, browser: Browser, theme: str = "light", width: str = "wide") -> None:
        self.mode = f"{theme}-{width}"
        viewport = {"width": _WIDTHS[width], "height": 860}
        scheme = "dark" if theme == "dark" else "light"
        self.context: BrowserContext = browser.new_context(
            color_scheme=scheme,
            viewport=viewport,  # type: ignore[arg-type]
        )
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def see(self, url: str) -> Page:
        """Opens a page and waits until everything of it is there."""
        self.page.goto(url)
        self.page.wait_for_load_state("networkidle")
        return self.page

    def keep(self, name: str) -> None:
        """Keeps a picture of the page where WEIGHTVAULT_TEST_SCREENSHOTS names a folder."""
        folder = os.environ.get("WEIGHTVAULT_TEST_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=Path(folder) / f"{name}-{self.mode}.png", full_page=True)

    def foreign_requests(self, url: str) -> list[str]:
        """What was asked of anybody but the server at `url`."""
        home = urlsplit(url).netloc
        return [r for r in self.requests if urlsplit(r).netloc != home and r[:5] != "data:"]

    def serious_faults(self) -> list[str]:
        """What axe finds that keeps somebody from using the page."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{fault['id']}: {fault['nodes'][0]['html']}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(text)
