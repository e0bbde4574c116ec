"""What the chaos harness checks beyond a picture finds what it looks for, too."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID

import pytest

from tests.chaos.deeds import PORT, Ledger
from tests.chaos.markers import Answer, Markers
from tests.chaos.picture import Picture
from tests.chaos.watch import IDLE_SECONDS, Resting, promises_are_kept

LEASE, OTHER, SPACE, ADA = (UUID(int=number) for number in range(1, 5))


def picture(state: str = "running", **facts: Any) -> Picture:
    lease = {
        "id": LEASE,
        "name": "web",
        "state": state,
        "port": PORT,
        "owner_id": ADA,
        "workspace_id": SPACE,
        **facts,
    }
    return Picture("0a1b2c3d", {"lease": [lease], "users": [{"id": ADA, "name": "ada"}]})


class Endpoint:
    """Answers ada only, until told otherwise."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, str], Answer | None] = {
            ("ada", "id"): (200, str(LEASE)),
            ("ada", "first"): (200, "made at first"),
            ("ada", "workspace"): (200, "made earlier"),
            ("bob", "id"): (403, ""),
            ("", "id"): (401, ""),
        }

    def __call__(self, who: str, name: str, path: str) -> Answer | None:
        return self.said[who, path]


def test_an_endpoint_in_order_is_found_to_be() -> None:
    markers = Markers(Endpoint())
    assert list(markers.wrong(picture())) == []
    assert list(markers.wrong(picture())) == []


@pytest.mark.parametrize(
    ("who", "path", "answer"),
    [
        ("ada", "id", None),
        ("ada", "id", (502, "")),
        ("ada", "id", (200, str(OTHER))),
        ("bob", "id", (200, str(LEASE))),
        ("", "id", (200, str(LEASE))),
        ("ada", "first", (200, "made anew")),
        ("ada", "first", (404, "")),
        ("ada", "workspace", (200, "made anew")),
    ],
)
def test_an_endpoint_that_is_wrong_is_found(who: str, path: str, answer: Answer | None) -> None:
    endpoint = Endpoint()
    markers = Markers(endpoint)
    assert list(markers.wrong(picture())) == []
    endpoint.said[who, path] = answer
    assert list(markers.wrong(picture()))


def test_an_endpoint_that_answers_after_its_lease_is_found() -> None:
    endpoint = Endpoint()
    assert list(Markers(endpoint).wrong(picture("ended")))
    endpoint.said["ada", "id"] = (410, "")
    assert list(Markers(endpoint).wrong(picture("ended"))) == []


def test_a_broken_promise_is_found() -> None:
    made, released = Ledger(made={LEASE: ("ada", "web")}), Ledger(released={LEASE})
    assert list(promises_are_kept(picture(), made, ())) == []
    assert list(promises_are_kept(picture("ended"), released, ())) == []
    assert list(promises_are_kept(picture(), released, ()))
    empty = dataclasses.replace(picture(), rows={})
    assert list(promises_are_kept(empty, made, ()))
    assert list(promises_are_kept(empty, made, {LEASE})) == [], "it was seen to have ended in order"


def test_who_rests_in_a_transaction_is_found() -> None:
    row = {"pid": 7, "since": "noon", "application_name": "leasing-scheduler", "query": "SELECT 1"}
    resting = Resting()
    assert list(resting.wrong([row], 0.0)) == []
    assert list(resting.wrong([row], IDLE_SECONDS - 0.1)) == []
    assert list(resting.wrong([row], IDLE_SECONDS + 0.1))
    assert list(resting.wrong([{**row, "since": "later"}], IDLE_SECONDS + 0.2)) == [], "another transaction"
    assert list(resting.wrong([row], 99.0, {"scheduler-1"})) == []
