"""A terminal in the browser, in a real container: typing, reloading, resizing, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import PHONE, Tab

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]


def screen(page: Page) -> str:
    """What the terminal shows, as a person reads it."""
    text: str = page.locator(".xterm-rows").evaluate(
        "rows => [...rows.children].map((row) => row.textContent.trimEnd()).join('\\n')"
    )
    return text.replace("\xa0", " ").strip()


def shows(page: Page, pattern: str) -> re.Match[str]:
    """Waits until it shows that; what matched."""
    page.wait_for_function(
        "p => new RegExp(p, 'm').test([...document.querySelectorAll('.xterm-rows > div')]"
        ".map((row) => row.textContent.replaceAll('\\u00a0', ' ').trimEnd()).join('\\n'))",
        arg=pattern,
    )
    found = re.search(pattern, screen(page), re.MULTILINE)
    assert found, screen(page)
    return found


def say(page: Page, line: str) -> None:
    page.keyboard.type(line)
    page.keyboard.press("Enter")


def test_a_terminal_outlives_a_reload_and_fits_its_window(admin: Tab, small: Callable[..., str]) -> None:
    small("desk", "sleep", "600")
    page = admin.open("/leases/desk")
    page.get_by_role("link", name="Terminal").click()
    expect(page.get_by_role("status").get_by_text("connected", exact=True)).to_be_visible()
    page.locator("#terminal").click()
    say(page, "cd /tmp && X=kept; echo $X-$((40+2)) ü")
    shows(page, r"^kept-42 ü$")

    page.reload()
    shows(page, r"^kept-42 ü$")  # it is shown again, and asked nothing again
    say(page, "echo still $X in $PWD")
    shows(page, r"^still kept in /tmp$")

    wide = int(shows_size(page)[1])
    page.set_viewport_size(PHONE)
    page.wait_for_function("() => document.querySelector('.xterm-screen').clientWidth < 390")
    assert wide > 100
    shows_size(page, r"^\d+ ([3-5]\d)$")

    say(page, r"printf '\033[38;2;10;200;30mgreen\033[0m\n'")
    expect(page.locator(".xterm-rows span").get_by_text("green", exact=True)).to_have_css(
        "color", "rgb(10, 200, 30)"
    )  # which a page may not say in a style attribute

    say(page, "exit 3")
    expect(page.get_by_role("alert")).to_contain_text("The shell ended with exit code 3.")
    page.get_by_role("button", name="Open another one").click()
    expect(page.get_by_role("status").get_by_text("connected", exact=True)).to_be_visible()
    page.locator("#terminal").click()
    say(page, "echo new ${X:-one}")
    shows(page, r"^new one$")


def shows_size(page: Page, pattern: str = r"^\d+ (\d+)$") -> re.Match[str]:
    """Asked again and again: the engine tells the terminal a moment later."""
    say(page, "while sleep .1; do clear; stty size; done")
    found = shows(page, pattern)
    page.keyboard.press("Control+C")
    return found


def test_what_is_marked_is_copied_and_pasted(admin: Tab, small: Callable[..., str]) -> None:
    small("clip", "sleep", "600")
    page = admin.open("/leases/clip/terminal")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=admin.origin)
    expect(page.get_by_role("status").get_by_text("connected", exact=True)).to_be_visible()
    say(page, "clear; echo copy-$((1+1))me")
    shows(page, r"^copy-2me$")
    word = page.locator(".xterm-rows > div").get_by_text("copy-2me").bounding_box()
    assert word
    page.mouse.dblclick(word["x"] + 10, word["y"] + 8)
    page.keyboard.press("Control+Shift+C")
    assert page.evaluate("navigator.clipboard.readText()") == "copy-2me"
    page.keyboard.type("echo pasted-")
    page.keyboard.press("Control+Shift+V")
    shows(page, r"echo pasted-copy-2me$")
    page.keyboard.press("Control+C")  # nothing is marked: it interrupts
    say(page, "echo on")
    shows(page, r"^on$")


def test_it_says_that_its_lease_is_over(admin: Tab, small: Callable[..., str], api: httpx.Client) -> None:
    small("brief", "sleep", "600")
    page = admin.open("/leases/brief/terminal")
    expect(page.get_by_role("status").get_by_text("connected", exact=True)).to_be_visible()
    api.delete("/leases/brief")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("Lease 'brief' .*: admin released it."))


def test_another_window_takes_it_over(admin: Tab, small: Callable[..., str]) -> None:
    small("twice", "sleep", "600")
    page = admin.open("/leases/twice/terminal")
    expect(page.get_by_role("status").get_by_text("connected", exact=True)).to_be_visible()
    say(page, "clear; echo here")
    shows(page, r"^here$")
    kept = page.evaluate("JSON.stringify({...sessionStorage})")
    other = page.context.new_page()
    other.add_init_script(f"Object.assign(sessionStorage, {kept})")  # as of a tab that was duplicated
    other.goto(page.url)
    shows(other, r"^here$")
    expect(page.get_by_role("alert")).to_contain_text("shown elsewhere now")
    page.get_by_role("button", name="Show it here").click()
    expect(page.get_by_role("status").get_by_text("connected", exact=True)).to_be_visible()
    expect(other.get_by_role("alert")).to_contain_text("shown elsewhere now")
