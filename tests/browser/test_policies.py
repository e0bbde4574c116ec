"""The page of policies: made, refused beside its fields, counting for a lease, set anew and deleted; for admins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.support.browser import Tab

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def gone(api: httpx.Client) -> Iterator[None]:
    """What is made here would count for leases of other tests."""
    yield
    for one in api.get("/policies").json()["items"]:
        if one["name"] != "platform":
            api.delete(f"/policies/{one['name']}").raise_for_status()


def test_a_policy_from_making_to_deleting(admin: Tab, api: httpx.Client, small: Callable[..., str]) -> None:
    admin.allow("422")
    small("ruled", "sleep", "600")
    page = admin.open("/")
    page.get_by_role("link", name="Policies").click()
    expect(page.get_by_text("Nobody made a policy yet")).to_be_visible()
    expect(page.get_by_text("lease admin policy set house")).to_be_visible()
    page.get_by_role("link", name="New policy").click()

    typed = {
        "Name": ("No Name", "cannot be a name"),
        "Which project": ("nosuch", "no lease"),
        "Idle after": ("1s", "out of range: 1m to 366d"),
        "Warned before": ("5m,15m", "Warnings come from the first"),
        "Longest": ("soon", "is not a duration"),
        "Working hours": ("mon 09:00-18:00 Mars", "no time zone that this machine knows"),
        "Signals count": ("mood=1", "is no signal with a threshold"),
        "Files of a suspended": ("x", "is not a duration"),
    }
    page.get_by_label("For", exact=True).select_option("one lease")
    _fill(page, {label: value for label, (value, _) in typed.items()})
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("[aria-invalid=true]")).to_have_count(len(typed))
    for label, (value, said) in typed.items():
        field = page.get_by_label(label)
        expect(field).to_have_value(value)
        described = page.locator(f"#{field.get_attribute('aria-describedby')}")
        expect(described).to_contain_text(said, ignore_case=True)

    terms = {
        "Name": "own", "Which project": "ruled", "Idle after": "45m", "Warned before": "10m", "Longest": "8h",
        "Working hours": "mon-fri 09:00-18:00 Europe/Berlin", "Signals count": "gpu=0.05, cpu=0.2",
        "Files of a suspended": "0s", "gives way to nobody": "20m",
    }  # fmt: skip
    _fill(page, terms)
    page.get_by_role("button", name="Make it").click()
    row = page.get_by_role("table", name="Policies").get_by_role("row").filter(has_text="own").last
    for said in (
        "lease ruled", "45m", "suspend", "10m", "8h", "mon,tue,wed,thu,fri 09:00-18:00 Europe/Berlin",
        "active from cpu=0.2 gpu=0.05", "protected 20m", "files kept for ever", "1 lease",
    ):  # fmt: skip
        expect(row).to_contain_text(said)
    made = api.get("/policies/own").json()
    assert made["set"] == [
        "window_seconds", "longest_seconds", "thresholds", "warnings", "hours", "protected_seconds",
        "retention_seconds",
    ]  # fmt: skip
    expect(admin.open("/leases/ruled").get_by_text("Policy own: suspended after 45m idle")).to_be_visible()

    page = admin.open("/new-policy")  # the same name, and for the same
    _fill(page, {"Name": "own"})
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_label("Name")).to_have_accessible_description(
        "There is a policy 'own' already. Set that one anew, or take another name."
    )
    _fill(page, {"Name": "other", "Which project": "ruled"})
    page.get_by_label("For", exact=True).select_option("one lease")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_label("Which project")).to_be_focused()
    expect(page.locator("#which-fault")).to_contain_text("There is a policy for the same already")
    assert [one["name"] for one in api.get("/policies").json()["items"]] == ["platform", "own"]

    page = admin.open("/policies/own")
    for label, value in terms.items():
        if label not in ("Name", "Working hours", "Signals count"):
            expect(page.get_by_label(label)).to_have_value(value)
    _fill(page, {"Idle after": "never", "Longest": ""})
    page.get_by_role("button", name="Set it anew").click()
    expect(row).to_contain_text("never")
    again = api.get("/policies/own").json()
    assert (again["window_seconds"], again["longest_seconds"]) == (0, None)
    assert {key: again[key] for key in ("hours", "thresholds", "warnings")} == {
        key: made[key] for key in ("hours", "thresholds", "warnings")
    }

    row.get_by_role("link", name="own").click()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("button", name="Leave it")).to_be_focused()
    page.get_by_role("button", name="Yes, delete it").click()
    expect(page.get_by_text("Nobody made a policy yet")).to_be_visible()


def test_only_admins_see_and_make_them(visit: Visit, api: httpx.Client) -> None:
    eve = visit("eve")
    eve.allow("403")
    expect(eve.open("/").get_by_role("link", name="Policies")).to_have_count(0)
    for path in ("/policies", "/new-policy", "/policies/own"):
        expect(eve.open(path).get_by_role("heading", name="Only admins may do that.")).to_be_visible()
    send = """() => fetch("/new-policy", {method: "POST", body: new URLSearchParams({name: "hers", window: "1h"})})
        .then((answer) => answer.status)"""
    assert eve.page.evaluate(send) == 403
    assert [one["name"] for one in api.get("/policies").json()["items"]] == ["platform"]


def _fill(page: Page, typed: dict[str, str]) -> None:
    for label, value in typed.items():
        page.get_by_label(label).fill(value)
