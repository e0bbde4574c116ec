"""Projects, quotas and where a lease is to be, through the SDK, against a real api."""

from __future__ import annotations

from typing import Any

import pytest

from leasing import Client, errors
from tests.support.cluster import IMAGE


def test_projects_quotas_and_where_a_lease_is_to_be(ada: Client, root: Client) -> None:
    made = root.admin.create_project("vision", weight=2, top_priority="high")
    assert (made.name, made.weight, made.members) == ("vision", 2, [])
    assert root.admin.change_project("vision", weight=3).weight == 3
    assert [one.user for one in root.set_member("vision", "ada", "owner").members] == ["ada"]
    assert [one.name for one in ada.projects()] == ["default", "vision"]
    assert [one.name for one in ada.me().projects] == ["vision", "default"]
    assert root.admin.change_node("local", labels={"disk": "fast"}).labels == {"disk": "fast"}
    assert root.admin.set_quota("projects/vision", max_devices=1.5).max_devices == 1.5
    assert [one.subject for one in ada.quotas()] == ["users/ada", "projects/vision"]
    assert [one.subject for one in root.quotas(everyone=True)] == ["projects/vision"]
    where: dict[str, Any] = {"node": "local", "labels": {"disk": "fast"}}
    lease = ada.up(
        image=IMAGE, gpu="1", project="vision", priority="high", preemptible=True, at_least="1h", **where
    )
    asked = lease.facts.request
    assert (asked.priority, asked.preemptible, asked.node, asked.labels, asked.at_least_seconds) == (
        "high", True, "local", {"disk": "fast"}, 3600,
    )  # fmt: skip
    with pytest.raises(errors.OverQuota, match=r"2 devices for project vision; the limit is 1\.5"):
        ada.up(image=IMAGE, gpu="1", project="vision")
    root.admin.clear_quota("projects/vision")
    ada.remove_member("vision", "ada")
    with pytest.raises(errors.NotAllowed, match="may not lease in project vision"):
        ada.up(image=IMAGE, project="vision")
    with pytest.raises(errors.Conflict, match="1 live lease"):
        root.admin.delete_project("vision")
    root.admin.create_project("brief")
    root.admin.delete_project("brief")
