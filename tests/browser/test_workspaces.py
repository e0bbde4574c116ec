"""The page of workspaces: made, filled, copied, and deleted only by who types its name."""

from __future__ import annotations

import tarfile
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import Tab
from tests.support.stack import until

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]


def test_a_workspace_from_making_to_deleting(
    admin: Tab, api: httpx.Client, small: Callable[..., str]
) -> None:
    admin.allow("422", "409")
    page = admin.open("/workspaces")
    expect(page.get_by_text("You have no workspace yet.")).to_be_visible()
    page.get_by_label("Name").fill("No Name")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_label("Name")).to_have_accessible_description(
        "'No Name' cannot be a name: use 1 to 40 lower-case letters, digits and dashes, no dash at an end. "
        "For example: train-7b."
    )
    page.get_by_label("Name").fill("shelf")
    page.get_by_label("Quota").fill("64M")
    page.get_by_role("button", name="Make it").click()
    row = page.get_by_role("table", name="Workspaces").locator("tbody tr")
    expect(row).to_contain_text("shelf")
    expect(row).to_contain_text("64M")

    small(
        "fills", "sh", "-c", "head -c 9000000 /dev/zero > /workspace/nine; sync; sleep 600", workspace="shelf"
    )
    until(lambda: api.get("/leases/fills").json()["state"] == "running", what="its start")
    page = admin.open("/workspaces")
    expect(row).to_contain_text("fills")
    page.get_by_role("button", name="Delete shelf").click()
    page.get_by_label("Type its name").fill("shelf")
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("alert")).to_contain_text("Workspace shelf is in use by fills")

    until(lambda: _nine(page, row), what="the copy of all that was written")
    api.delete("/leases/fills").raise_for_status()
    until(lambda: api.get("/leases/fills").json()["state"] == "ended", what="its end")
    page = admin.open("/workspaces")
    expect(row).to_contain_text("nobody")
    page.get_by_role("button", name="Delete shelf").click()
    page.get_by_label("Type its name").fill("shelve")
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was deleted: 'shelve' is not 'shelf'.")
    page.get_by_role("button", name="Delete shelf").click()
    page.get_by_label("Type its name").fill("shelf")
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("You have no workspace yet.")).to_be_visible()


def _nine(page: Page, row: Locator) -> bool:
    """Whether a copy, taken as a person takes it, has the nine million bytes."""
    with page.expect_download() as started:
        row.get_by_label("Export shelf").click()
    with tarfile.open(started.value.path()) as tar:
        return "workspace/nine" in tar.getnames() and tar.getmember("workspace/nine").size == 9_000_000
