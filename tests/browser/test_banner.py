"""The banner: on every page what is about to be taken back, gone by one click. A mail's link, without signing in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import web
from leasing.model import TokenKind
from leasing.secrets import signing_key
from leasing.service import links, people
from leasing.service.links import Link
from leasing.states import NoticeKind
from tests.support import browser
from tests.support.api import Served, served
from tests.support.cluster import Cluster
from tests.support.warned import notices_of, quiet_since, reclaimer

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]


@pytest.fixture
def pages(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with Cluster.opened(database_url) as cluster, served(cluster, tmp_path, prepare=web.mount) as made:
        yield made


def cookie(pages: Served) -> str:
    with pages.cluster.sessions.begin() as session:
        return people.issue(session, pages.cluster.ada.user_id, TokenKind.SESSION, "test", expires_at=None)[1]


def test_a_warning_stands_over_every_page_until_one_click(pages: Served, chromium: Browser) -> None:
    cluster = pages.cluster
    lease = cluster.run(name="train", idle_timeout="1h", ttl="8h")
    state = browser.holding(cookie(pages), pages.url)
    with browser.tab(chromium, pages.url, storage_state=state) as tab:
        page = tab.open("/")
        expect(page.get_by_role("link", name="train")).to_be_visible()
        expect(page.get_by_role("button", name="Keep train")).to_have_count(0)
        quiet_since(cluster, lease, timedelta(hours=1))
        reclaimer(cluster).run_once()
        for path in ("/", "/machines", "/calendar", "/new", "/leases/train"):
            page = tab.open(path)
            warning = page.get_by_role("status", name="Warning about train")
            expect(warning).to_contain_text(
                "train is idle (GPU, CPU quiet for a while) and is suspended in 14m"
            )
            expect(warning).to_contain_text("lease extend train")
        page.get_by_role("button", name="Keep train").click()
        expect(page.get_by_role("heading", name="train")).to_be_visible()
        expect(page.get_by_role("status", name="Warning about train")).to_have_count(0)
        expect(page.get_by_role("region", name="Events")).to_contain_text("keeps it for 2h")
    assert cluster.lease(lease.id).reclaim_at is None


def test_the_link_in_a_mail_needs_one_click_and_no_sign_in(pages: Served, chromium: Browser) -> None:
    cluster = pages.cluster
    lease = cluster.run(name="train", idle_timeout="1h", ttl="8h")
    quiet_since(cluster, lease, timedelta(hours=1))
    reclaimer(cluster).run_once()
    deadline = notices_of(cluster, lease.id)[0].deadline
    key = signing_key(pages.settings.secret_key_file(), links.PURPOSE)
    link = links.make(key, Link(lease.id, NoticeKind.IDLE, deadline, deadline + timedelta(days=7)))
    with browser.tab(chromium, pages.url) as tab:
        page = tab.open(f"/extend/{link}")
        expect(page.get_by_role("status")).to_contain_text("train is idle, and is taken back at")
        page.get_by_role("button", name="Keep train").click()
        expect(page.get_by_role("status")).to_contain_text("train is not taken back as idle for a while")
        page = tab.open(f"/extend/{link}")
        expect(page.get_by_text("That was done already")).to_be_visible()
        expect(page.get_by_role("button")).to_have_count(0)
