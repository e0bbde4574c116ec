"""Applications that believe they live at `/`, in a real browser: below a prefix, and on a host of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support import browser
from tests.support.planes import TOKEN, Open, opened
from tests.support.rooted import Rooted, rooted

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack")]
DOMAIN = "apps.localhost"


@pytest.fixture(scope="module")
def application() -> Iterator[Rooted]:
    with rooted() as made:
        yield made


@pytest.fixture(scope="module")
def gate(application: Rooted) -> Iterator[Open]:
    with opened(application.port, domain=DOMAIN) as made:
        yield made


def test_links_from_the_root_work_below_a_prefix(gate: Open, application: Rooted, chromium: Browser) -> None:
    origin = f"http://127.0.0.1:{gate.port}"
    kept = [
        {"name": "leasing_endpoint", "value": TOKEN, "domain": "127.0.0.1", "path": "/l/app/"},
        {"name": "leasing_root_app", "value": TOKEN, "domain": "127.0.0.1", "path": "/"},
    ]
    with browser.tab(chromium, origin) as visitor:
        visitor.page.context.add_cookies(kept)  # type: ignore[arg-type]  # playwright takes plain dicts
        page = visitor.open("/l/app/")
        expect(page).to_have_title("module data posted HELLO data")
        expect(page.get_by_role("heading")).to_have_css("color", "rgb(1, 2, 3)")
        page.get_by_role("link", name="next").click()
        page.wait_for_url("**/l/app/next")
        # a reload of an address that a script wrote finds back, too
        visitor.open("/deep/page")
        page.wait_for_url("**/l/app/deep/page")
    assert not [headers for _, headers in application.seen if TOKEN in str(headers)], "a secret reached it"


def test_links_from_the_root_work_on_a_host_of_its_own(gate: Open, chromium: Browser) -> None:
    origin = f"http://app.{DOMAIN}:{gate.port}"
    with browser.tab(chromium, origin) as visitor:
        visitor.page.context.add_cookies(
            [{"name": "leasing_endpoint", "value": TOKEN, "url": origin, "httpOnly": True}]
        )
        page = visitor.open("/")
        expect(page).to_have_title("module data posted HELLO data")
        expect(page).to_have_url(f"{origin}/deep/page")
