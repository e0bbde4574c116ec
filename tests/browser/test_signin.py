"""Coming in by the one-time link, and leaving."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.support.browser import Tab
from tests.support.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]


def test_a_link_is_good_once_and_says_so(stack: Stack, visit: Visit) -> None:
    link = stack.signin_link()
    first, second = visit(), visit()
    first.page.goto(link)
    expect(first.page.get_by_text("Your link is good once")).to_be_visible()
    first.page.get_by_role("button", name="Sign in").click()
    expect(first.page).to_have_url(f"{stack.url}/")
    expect(first.page.get_by_role("heading", name="Your leases")).to_be_visible()

    second.allow("401")
    second.page.goto(link)
    second.page.get_by_role("button", name="Sign in").click()
    expect(second.page.get_by_role("alert")).to_contain_text("used already or is too old")
    expect(second.page.get_by_role("alert")).to_contain_text("lease admin signin-link NAME")
    second.open("/")
    expect(second.page).to_have_url(f"{stack.url}/signin")


def test_a_wrong_code_is_refused_in_a_sentence(visit: Visit) -> None:
    tab = visit()
    tab.allow("401")
    page = tab.open("/signin")
    page.get_by_label("One-time code").fill("lse_nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("used already or is too old")
    expect(page.get_by_label("One-time code")).to_be_visible()


def test_who_is_not_signed_in_is_shown_where_to(stack: Stack, visit: Visit) -> None:
    tab = visit()
    for path in ("/", "/new", "/machines", "/leases/anything"):
        wanted = f"?next={quote(path, safe='')}" if path != "/" else ""
        expect(tab.open(path)).to_have_url(f"{stack.url}/signin{wanted}")


def test_signing_out_ends_the_session_in_every_tab(stack: Stack, visit: Visit, api: httpx.Client) -> None:
    api.post("/users", json={"name": "grace"}).raise_for_status()
    tab = visit()
    tab.page.goto(api.post("/users/grace/signin-link").json()["url"])
    tab.page.get_by_role("button", name="Sign in").click()
    other = tab.page.context.new_page()
    other.goto(f"{stack.url}/")
    (cookie,) = tab.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    tab.page.get_by_role("button", name="Sign out").click()
    expect(tab.page).to_have_url(f"{stack.url}/signin")
    # the other one notices at its next look
    expect(other).to_have_url(f"{stack.url}/signin")
    stolen = httpx.get(
        f"{stack.url}/", cookies={cookie["name"]: cookie["value"]}, headers={"Accept": "text/html"}
    )
    assert stolen.status_code == 303


def test_what_is_not_there_or_not_yours_is_a_page_with_a_way_back(
    admin: Tab, visit: Visit, small: object, api: httpx.Client
) -> None:
    admin.allow("404")
    page = admin.open("/leases/nosuch")
    expect(page.get_by_role("heading", name="There is no lease 'nosuch'")).to_be_visible()
    page.get_by_role("link", name="Your leases").click()
    expect(page.get_by_role("heading", name="Your leases")).to_be_visible()
    expect(admin.open("/nowhere").get_by_role("heading", name="Not Found")).to_be_visible()
