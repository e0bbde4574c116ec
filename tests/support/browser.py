"""A real Chromium on the pages. It notices what none may do: call elsewhere, fail in a script, break its policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from leasing.host.packages import program
from tests.support.sheltered import sheltered

SECONDS = 15
DESK = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const own = rgba(getComputedStyle(element).backgroundColor);
    if (own[3] === 1) return own;
    return over(own, element.parentElement ? behind(element.parentElement) : rgba("Canvas"));
  };
  const light = (color) => {
    const [r, g, b] = color.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const judge = (element, text, pseudo) => {
    const below = behind(element), own = over(rgba(getComputedStyle(element, pseudo).color), below);
    const [less, more] = [light(own), light(below)].sort((a, b) => a - b);
    found.push([Math.round(100 * (more + 0.05) / (less + 0.05)) / 100, text.trim().slice(0, 40)]);
  };
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility({visibilityProperty: true}) || element.closest("[disabled], datalist")) continue;
    for (const node of element.childNodes)
      if (node.nodeType === Node.TEXT_NODE && node.data.trim()) judge(element, node.data);
    if (element.placeholder) judge(element, element.placeholder, "::placeholder");
    if (element.value && element.matches("input, textarea")) judge(element, element.value);
  }
  return found;
}"""
"""Every text that is shown, with the ratio (WCAG 2) of its colour to what lies behind it."""


@dataclass
class Tab:
    """A page, and what went wrong on it."""

    page: Page
    origin: str
    troubles: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()
    """Parts of console messages that belong to what a test does, such as being refused."""

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.origin}{path}")
        return self.page

    def allow(self, *parts: str) -> None:
        self.allowed += parts

    def check(self) -> None:
        left = [one for one in self.troubles if not any(part in one for part in self.allowed)]
        assert not left, left


def holding(session: str, origin: str) -> Any:
    """What a browser keeps of somebody who signed in there; for a tab's `storage_state`."""
    return {"cookies": [{"name": "leasing_session", "value": session, "url": origin}], "origins": []}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The distribution's own; Playwright's download is not needed. Leases that start disturb it, without root."""
    path = program("chromium")
    assert path is not None, "python -m leasing.host setup --for-tests installs it"
    expect.set_options(timeout=SECONDS * 1000)
    with ExitStack() as stack:
        arguments: list[str] = []
        if os.geteuid() == 0:
            path, arguments = stack.enter_context(sheltered(path))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=path, args=arguments, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser, origin: str, **options: Any) -> Iterator[Tab]:
    """A visitor of their own, cookies too. Ends with a check of what the browser noticed."""
    context = browser.new_context(**({"viewport": DESK} | options))
    context.set_default_timeout(SECONDS * 1000)
    made = Tab(context.new_page(), origin)
    _listen(context, made)
    try:
        yield made
    finally:
        context.close()
    made.check()


def _listen(context: BrowserContext, watched: Tab) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            watched.troubles.append(f"console: {message.text} {message.location['url']}")

    context.on("console", said)
    context.on("weberror", lambda error: watched.troubles.append(f"script: {error.error}"))
    context.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((f"{watched.origin}/", "data:"))
            else watched.troubles.append(f"request: {request.url}")
        ),
    )
