"""Keeping a lease on its page although it looks idle: refused beside its field, kept, asked, and no longer."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Tab

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]

COMMAND, TIME = "While this command succeeds in it", "For so long at most"


def test_a_lease_is_kept_while_a_command_succeeds_and_no_longer(
    admin: Tab, small: Callable[..., str], api: httpx.Client
) -> None:
    admin.allow("409")
    page = admin.open(f"/leases/{small('busy', 'sleep', '600')}")
    said = page.get_by_role("region", name="In use or idle")
    expect(said).to_contain_text("The platform's policy: suspended after 1h idle, warned 15m and 5m before.")
    expect(said).to_contain_text("Started less than 1h10m ago.")
    expect(said.get_by_text("terminal")).to_be_hidden()
    said.get_by_text("What each signal says").click()
    expect(said.get_by_role("definition").filter(has_text="0 bytes typed")).to_contain_text("quiet")

    _keep(page, "sleep '0", "a while")
    expect(page.get_by_label(COMMAND)).to_have_accessible_description(
        "The command cannot be read: No closing quotation. For example: --while 'pgrep train'"
    )
    expect(page.get_by_label(COMMAND)).to_be_focused()
    expect(page.get_by_label(TIME)).to_have_accessible_description(
        "'a while' is not a duration. Write it like 30m, 4h, 1h30m or 2d."
    )
    expect(page.get_by_label(COMMAND)).to_have_value("sleep '0")
    assert api.get("/leases/busy").json()["keep"] is None

    page.get_by_label(COMMAND).fill("sleep 0")
    page.get_by_label(TIME).fill("")
    page.get_by_role("button", name="Keep although idle").click()
    expect(said).to_contain_text("Kept while sleep 0 succeeds; asked for by admin")
    page.evaluate("window.sameDocument = true")
    expect(said).to_contain_text("It succeeded")
    expect(said).to_contain_text("Kept by its owner.")
    assert page.evaluate("window.sameDocument")
    kept = api.get("/leases/busy").json()["keep"]
    assert (kept["command"], kept["until"], kept["exit_code"]) == ("sleep 0", None, 0)

    page.get_by_role("button", name="End the keep").click()
    expect(said).to_contain_text("It is no longer kept while `sleep 0` succeeds: admin ended it")
    _keep(page, "sleep x", "")
    expect(said).to_contain_text("It is no longer kept while `sleep x` succeeds: exit code")
    expect(page.get_by_role("button", name="End the keep")).to_have_count(0)

    _keep(page, "", "")
    expect(said).to_contain_text("Kept until in 7h59m; asked for by admin")
    assert api.get("/leases/busy").json()["keep"]["command"] is None


def test_what_does_not_run_is_not_kept_and_says_so(
    admin: Tab, small: Callable[..., str], api: httpx.Client
) -> None:
    admin.allow("409")
    page = admin.open(f"/leases/{small('gone', 'sleep', '600')}")
    page.get_by_text("Keep it although it looks idle").click()
    page.get_by_label(TIME).fill("3")
    with page.expect_response(lambda response: "hx-request" in response.request.headers):
        pass
    expect(page.get_by_label(TIME)).to_have_value("3")  # a look anew leaves what is half typed

    # what another tab did meanwhile
    send = """() => fetch("/leases/gone/keep", {method: "POST", body: new URLSearchParams({ttl: "1h"})})
        .then((answer) => answer.text())"""
    api.post("/leases/gone/suspend").raise_for_status()
    expect(page.get_by_role("status").filter(has_text="suspended")).to_be_visible(timeout=20_000)
    expect(page.get_by_label(TIME)).to_be_hidden()
    assert "only what runs can look idle" in page.evaluate(send)
    assert api.get("/leases/gone").json()["keep"] is None


def _keep(page: Page, command: str, ttl: str) -> None:
    page.get_by_text("Keep it although it looks idle").click()
    page.get_by_label(COMMAND).fill(command)
    page.get_by_label(TIME).fill(ttl)
    page.get_by_role("button", name="Keep although idle").click()
