"""Sharing a lease on its page, and a token for its endpoint: made, shown once, revoked."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.support.stack import until

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]


def test_a_lease_is_shared_on_its_page_and_a_token_handed_out(
    visit: Visit, api: httpx.Client, small: Callable[..., str]
) -> None:
    name = small("handed", "sleep", "600", port=8000)
    vera = visit("vera")
    api.put("/projects/default/members/vera", json={"role": "viewer"}).raise_for_status()
    vera.allow("403")
    expect(vera.open(f"/leases/{name}").get_by_text("not shared with its project")).to_be_visible()
    admin = visit("admin")
    page = admin.open(f"/leases/{name}")
    access = page.get_by_role("region", name="Access")
    access.get_by_role("button", name="Share with the project").click()
    expect(access.get_by_text("Shared with project default")).to_be_visible()

    page.get_by_text("New token for the endpoint").click()
    page.get_by_label("What it is for").fill("<b>grader")
    page.get_by_label("How long it is good").fill("soon")
    admin.allow("422")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_text("not a duration")).to_be_visible()
    expect(page.get_by_label("What it is for")).to_have_value("<b>grader")
    page.get_by_label("How long it is good").fill("2h")
    page.get_by_role("button", name="Make it").click()
    secret = page.get_by_label("It is not shown again").input_value()
    assert secret.startswith("lse_")
    assert secret not in admin.open(f"/leases/{name}").content()

    theirs = vera.open(f"/leases/{name}")
    expect(theirs.get_by_role("region", name="Access")).to_contain_text("Shared with project default")
    expect(theirs.get_by_text("New token for the endpoint")).to_be_visible()
    for button in (
        "Release…",
        "Extend",
        "Suspend",
        "Keep although idle",
        "Share it no longer",
    ):  # a viewer calls, and no more
        expect(theirs.get_by_role("button", name=button)).to_have_count(0)
    expect(theirs.get_by_role("region", name="Access")).not_to_contain_text("grader")  # somebody else's
    expect(vera.open("/").get_by_text("admin's")).to_be_visible()

    def said(token: str) -> str:
        url = api.get(f"/leases/{name}").json()["endpoint_url"]
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, verify=False)
        return str(answer.json()["code"])

    until(lambda: said(secret) == "not_listening", what="the token's way in")
    page.get_by_role("button", name="Revoke the token <b>grader").click()
    expect(page.get_by_role("region", name="Access")).not_to_contain_text("grader")
    until(lambda: said(secret) == "not_signed_in", what="the token's end")
    page.get_by_role("button", name="Share it no longer").click()
    expect(page.get_by_text("admin's alone")).to_have_count(0)
    expect(page.get_by_text("Yours alone")).to_be_visible()
