"""Reservations through the SDK, against a real api."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leasing import Client, errors
from leasing.states import Role
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with Cluster.opened(database_url, devices=2) as cluster, served(cluster, tmp_path) as made:
        yield made


def test_a_reservation_from_booking_to_cancelling(api: Served) -> None:
    ada, root, eve = (
        Client(api.url, secret)
        for secret in (token(api.cluster, api.cluster.ada), api.user("root", Role.ADMIN), api.user("eve"))
    )
    with ada, root, eve:
        _book_and_cancel(ada, root, eve)


def _book_and_cancel(ada: Client, root: Client, eve: Client) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    made = ada.reserve(name="review", gpu="A100:2", cpus="4", memory="8G", starts_at=start, ttl="2h")
    assert (made.owner, made.project, made.node, made.gpu, made.cpus) == (
        "ada",
        "default",
        "local",
        "A100:2",
        4,
    )
    assert (made.starts_at, made.ends_at, made.state) == (start, start + timedelta(hours=2), "booked")
    assert [device.index for device in made.devices] == [0, 1]
    assert ada.reservation("review") == ada.reservation(str(made.id)) == made
    assert [one.name for one in ada.reservations()] == ["review"]
    assert ada.reservations(starts_at=made.ends_at) == []
    assert ada.reservations(ends_at=start) == []
    with pytest.raises(errors.NotFree, match="not free") as refused:
        root.reserve(gpu="1", starts_at=start, until=start + timedelta(minutes=5))
    assert refused.value.hint is not None
    assert [one.owner for one in eve.reservations()] == ["ada"]
    with pytest.raises(errors.NotAllowed):
        eve.cancel_reservation("review")
    assert ada.cancel_reservation("review").state == "cancelled"
    assert root.cancel_reservation("review").state == "cancelled"
    assert ada.reservations() == []
    for wishes in ({"ttl": "1h", "until": start}, {}, {"gpu": "0.5", "ttl": "1h"}):
        with pytest.raises(errors.Invalid):
            ada.reserve(**wishes)
    with pytest.raises(errors.NotFound):
        ada.reservation("nosuch")
