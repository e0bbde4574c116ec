"""The form for a new lease: in whose name, in which class, and whether it may give way."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.support.images import BUSYBOX

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]


def test_a_class_above_the_project_s_is_refused_beside_it(visit: Visit, api: httpx.Client) -> None:
    tab = visit("kim")
    tab.allow("422")
    for project in ("form-vision", "form-closed"):
        api.post("/projects", json={"name": project, "top_priority": "high"}).raise_for_status()
    api.put("/projects/form-vision/members/kim", json={}).raise_for_status()

    page = tab.open("/new")
    expect(page.get_by_label("Project")).to_be_hidden()
    page.get_by_label("Name").fill("form-one")
    page.get_by_label("Image").fill(BUSYBOX)
    page.get_by_label("CPUs").fill("0.1")
    page.get_by_label("Memory").fill("64M")
    page.get_by_text("More").click()
    offered = page.get_by_label("Project").locator("option").all_inner_texts()
    assert "form-vision" in offered
    assert "form-closed" not in offered
    page.get_by_label("Priority").select_option("high")
    page.get_by_label("May give way").check()
    page.get_by_role("button", name="Ask for it").click()

    priority = page.get_by_label("Priority")
    expect(priority).to_have_accessible_description(
        "Leases of project default may have priority normal at most. Ask with --priority normal, or ask an admin."
    )
    expect(page.locator("[aria-invalid=true]")).to_have_count(1)
    expect(priority).to_have_value("high")
    expect(page.get_by_label("May give way")).to_be_checked()

    page.get_by_label("Project").select_option("form-vision")
    page.get_by_label("Share it").check()
    page.get_by_role("button", name="Ask for it").click()
    expect(page.get_by_role("heading", name="form-one")).to_be_visible()
    lease = api.get("/leases/form-one").json()
    api.delete("/leases/form-one").raise_for_status()
    assert (lease["project"], lease["request"]["priority"], lease["request"]["preemptible"], lease["shared"]) == (
        "form-vision", "high", True, True,
    )  # fmt: skip
