"""A device between two leases: proven clean by a report, quarantined until it is, and what an admin may accept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.errors import NotFound
from leasing.model import Device, DeviceUsage, Event, Lease
from leasing.service import handover
from leasing.service.principal import Principal
from leasing.states import Role
from tests.integration.test_report import GIB, A, Sampled, gpu
from tests.support.cluster import Cluster, user

LEFT = {"pid": 4711, "name": "python", "memory_bytes": 3 * GIB}
QUIET = {"listening_since": 1, "xids": {}, "ecc_uncorrected": 5, "remap_pending": False}


@pytest.fixture
def node(database_url: str) -> Iterator[Sampled]:
    """One device, seen empty with 0.5G in use, and reports by the database's own clock."""
    with Cluster.opened(database_url) as made:
        made.proves = False
        with made.sessions() as session:
            sampled = Sampled(made, now(session))
        sampled.report(gpu(A, memory_used_bytes=GIB // 2, faults=QUIET), seconds=0)
        yield sampled


def released(node: Sampled) -> Lease:
    """A lease had the device and gave it back; the clock of reports stands a moment after that."""
    lease = node.cluster.run(gpu="1")
    node.cluster.release(lease.id)
    node.cluster.work()
    with node.cluster.sessions() as session:
        node.moment = now(session)
    return lease


def empty(**facts: Any) -> dict[str, Any]:
    return gpu(A, **({"memory_used_bytes": GIB // 2, "faults": QUIET} | facts))


def test_a_device_is_leased_again_only_when_a_report_has_proven_it_clean(node: Sampled) -> None:
    released(node)
    assert node.state() == "cleaning"
    second = node.cluster.ask(gpu="1")
    node.cluster.plan()
    waiting = node.cluster.lease(second.id)
    assert waiting.state == "queued"
    assert "being cleaned after the last lease" in waiting.blockers[0]
    node.report(empty())
    assert node.state() == "free"
    node.cluster.plan()
    assert node.cluster.lease(second.id).state == "placed"
    assert node.events("device.") == ["device.appeared"], "what is normal is no news"


def test_a_report_from_before_the_release_proves_nothing(node: Sampled) -> None:
    """It was on its way while the device was given back; so was one that does not know when it was."""
    lease = released(node)
    before = node.moment - timedelta(seconds=10)
    node.report(empty(), sampled_at=before)
    assert node.state() == "cleaning"
    node.report(empty(), sampled_at=None)
    assert node.state() == "cleaning"
    own = {"pid": 7, "container_id": node.container(lease)}
    node.report(empty(processes=[own]), sampled_at=before)
    assert node.device().foreign_since is None, "it was still its holder's then"
    assert node.device().quarantine_reason == "its node's sampler has not looked at it since"


def test_who_asks_to_be_reported_to_soon(node: Sampled) -> None:
    assert not node.soon()
    lease = node.cluster.run(gpu="1")
    node.report(empty(), seconds=0)
    assert not node.soon()
    node.cluster.release(lease.id)
    node.report(empty(), seconds=0)
    assert node.soon(), "it is about to be given back"
    node.cluster.work()
    with node.cluster.sessions() as session:
        node.moment = now(session)
    node.report(empty(processes=[LEFT]))
    assert node.soon()
    node.report(empty(processes=[LEFT]), seconds=61)
    assert not node.soon(), "quarantined: no hurry"


def test_a_lost_device_is_not_asked_for_in_a_hurry(node: Sampled) -> None:
    released(node)
    node.report(gpu(A, health="lost", processes=None, memory_used_bytes=None))
    assert not node.soon()
    assert node.state() == "out"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"processes": [LEFT]}, "process 4711 (python) is still on it"),
        (
            {"processes": [LEFT, {"pid": 1}, {"pid": 2}]},
            "process 4711 (python) and 2 more are still on it",
        ),
        ({"memory_used_bytes": 3 * GIB}, "3G of memory is still in use, its floor is 512M"),
        ({"memory_used_bytes": None}, "NVML does not tell how much of its memory is in use"),
        ({"processes": None}, "NVML does not tell which processes are on it"),
    ],
)
def test_what_does_not_go_away_quarantines_until_it_does(
    node: Sampled, wrong: dict[str, Any], reason: str
) -> None:
    released(node)
    node.report(empty(**wrong))
    assert (node.state(), node.device().quarantine_reason) == ("cleaning", reason)
    node.report(empty(**wrong), seconds=61)
    node.report(empty(**wrong))
    assert node.state() == "quarantined"
    second = node.cluster.ask(gpu="1")
    node.cluster.plan()
    assert f"quarantined: {reason}" in node.cluster.lease(second.id).blockers[0]
    node.report(empty())
    assert node.state() == "free"
    assert node.device().quarantine_reason == ""
    told = [kind for kind in node.events() if "foreign" not in kind]
    assert told == ["device.appeared", "device.quarantined", "device.cleared"], "each once"


def test_memory_may_be_a_little_above_the_least_that_was_seen(node: Sampled) -> None:
    released(node)
    node.report(empty(memory_used_bytes=GIB // 2 + 257 * 2**20))
    assert node.state() == "cleaning"
    node.report(empty(memory_used_bytes=GIB // 2 + 256 * 2**20))
    assert node.state() == "free"
    assert node.device().floor_bytes == GIB // 2


def test_a_machine_started_anew_has_a_floor_of_its_own(node: Sampled) -> None:
    released(node)
    node.report(empty(memory_used_bytes=GIB), seconds=61)
    assert node.state() == "quarantined"
    node.report(empty(memory_used_bytes=GIB), boot_id="second")
    assert node.state() == "free"
    assert node.device().floor_bytes == GIB


def test_of_a_shared_device_only_who_left_must_be_gone(node: Sampled) -> None:
    stays, leaves = node.cluster.run(gpu="0.5"), node.cluster.run(gpu="0.5")
    one, other = node.container(stays), node.container(leaves)
    mine = {"pid": 1, "container_id": one, "memory_bytes": 9 * GIB}
    node.cluster.release(leaves.id)
    node.cluster.work()
    with node.cluster.sessions() as session:
        node.moment = now(session)
    third = node.cluster.ask(gpu="0.5")
    node.report(empty(processes=[mine, {"pid": 2, "container_id": other}], memory_used_bytes=20 * GIB))
    node.cluster.plan()
    assert "process 2 is still on it" in node.cluster.lease(third.id).blockers[0]
    node.report(empty(processes=[mine], memory_used_bytes=20 * GIB))
    node.cluster.plan()
    assert node.cluster.lease(third.id).state == "placed"
    assert node.device().floor_bytes == GIB // 2, "learned only while nobody holds it"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"xids": {79: 1}}, "Xid 79: fell off the bus"),
        ({"ecc_uncorrected": 7}, "2 uncorrected ECC errors"),
        ({"remap_pending": True}, "a row of memory waits for a reset to be remapped"),
    ],
)
def test_a_fault_of_the_device_s_own_needs_an_admin(
    node: Sampled, fault: dict[str, Any], reason: str
) -> None:
    faults = QUIET | fault
    held = node.cluster.run(gpu="1")
    node.report(empty(faults=faults))
    assert node.state() == "leased", "its holder keeps it"
    node.cluster.release(held.id)
    node.cluster.work()
    with node.cluster.sessions() as session:
        node.moment = now(session)
    for _ in range(3):
        node.report(empty(faults=faults))
    assert (node.state(), node.device().quarantine_reason) == ("quarantined", reason)
    root = clear(node)
    node.report(empty(faults=faults))
    assert node.state() == "free", "what an admin has seen is no news any more"
    assert node.events() == ["device.appeared", "device.quarantined", "device.accepted", "device.cleared"]
    with node.cluster.sessions() as session:
        accepted = session.execute(sa.select(Event).where(Event.kind == "device.accepted")).scalar_one()
    assert (accepted.actor, accepted.data) == (root.actor, {"reason": reason})


def test_errors_of_applications_are_nobody_s_fault_after_them(node: Sampled) -> None:
    released(node)
    node.report(empty(faults=QUIET | {"xids": {13: 1, 31: 4, 43: 1, 45: 2, 68: 1}}))
    assert node.state() == "free"


def test_a_sampler_started_anew_counts_anew_and_what_it_counts_is_news(node: Sampled) -> None:
    node.report(empty(faults=QUIET | {"xids": {48: 1}}))
    clear(node)
    node.report(empty(faults=QUIET | {"xids": {48: 1}}))
    assert node.state() == "free"
    node.report(empty(faults=QUIET | {"listening_since": 2}))
    assert node.state() == "free"
    node.report(empty(faults=QUIET | {"listening_since": 2, "xids": {48: 1}}))
    assert node.state() == "quarantined"


def test_an_admin_may_accept_memory_but_not_a_process(node: Sampled) -> None:
    released(node)
    node.report(empty(memory_used_bytes=3 * GIB), seconds=61)
    clear(node)
    node.report(empty(memory_used_bytes=3 * GIB, processes=[LEFT]))
    assert node.state() == "quarantined"
    node.report(empty(memory_used_bytes=3 * GIB))
    assert node.state() == "free"
    assert node.device().floor_bytes == 3 * GIB


def test_who_waits_is_planned_for_as_soon_as_the_device_is_clean(node: Sampled) -> None:
    """No row is written for what is normal: a hint wakes the planner."""
    released(node)
    engine = node.cluster.sessions.kw["bind"]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as listening:
        listening.execute(sa.text("LISTEN leasing_event"))
        node.report(empty())
        node.report(empty())
        raw = listening.connection.driver_connection
        assert [note.payload for note in raw.notifies(timeout=0.2)] == ["-:device.clean"]


def test_nobody_clears_what_there_is_not(node: Sampled) -> None:
    with pytest.raises(NotFound):
        clear(node, "GPU-nowhere")


def test_the_database_itself_stamps_what_is_given_back(node: Sampled) -> None:
    with node.cluster.sessions() as session:
        assert session.execute(sa.select(DeviceUsage.released_at)).scalar_one() is None
    released(node)
    with node.cluster.sessions() as session:
        at, device = session.execute(sa.select(DeviceUsage.released_at, Device).join(Device)).one()
    assert handover.cleaning(device, at)


def clear(node: Sampled, uuid: str = A) -> Principal:
    with node.cluster.sessions.begin() as session:
        root = user(session, f"root-{node.sequence}", Role.ADMIN)
        handover.clear(session, uuid, principal=root)
        return root
