"""What tests of the calendar begin with: something booked, and nodes to book on."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from leasing.database import now
from leasing.model import Node, NodeUsage, Reservation
from leasing.schema.reservation import ReservationRequest
from leasing.service import reservations
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import NodeHealth
from tests.support.cluster import Cluster, add_device

LIMITS = LimitSettings()


def book(
    cluster: Cluster, who: Principal | None = None, limits: LimitSettings = LIMITS, **ask: object
) -> Reservation:
    """By ada, with sane wishes: one device in an hour, for an hour. Times may be offsets from now."""
    with cluster.sessions.begin() as session:
        moment = now(session)
        facts: dict[str, object] = {"starts_at": timedelta(hours=1), "ttl": "1h"} | ask
        for key in ("starts_at", "until"):
            if isinstance(offset := facts.get(key), timedelta):
                facts[key] = moment + offset
        return reservations.book(
            session,
            ReservationRequest.model_validate(facts),
            principal=who or cluster.ada,
            limits=limits,
            now=moment,
        )


def add_node(cluster: Cluster, name: str, *, devices: int) -> UUID:
    """A second machine."""
    with cluster.sessions.begin() as session:
        node = Node(name=name, driver="fake", address="", health=NodeHealth.READY, token_hash=name.encode())
        session.add(node)
        session.flush()
        session.add(NodeUsage(node_id=node.id, cpus_millis=16_000, memory_bytes=2**38))
        for index in range(devices):
            add_device(session, node.id, index, now(session))
        return node.id
