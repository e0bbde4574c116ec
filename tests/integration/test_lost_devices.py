"""A lease that lost a device is told of, moved if it may be, and restarted when its owner says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.protocol import Ran
from leasing.errors import Conflict, Gone
from leasing.model import Allocation, Device, Event, Lease, Run, Signal, SignalKind
from leasing.service import device_faults
from leasing.states import DeviceHealth
from scheduler.reconcile.devices import LOOK_EVERY, LostDevices
from tests.support.cluster import Cluster

GRACE = 30.0


class Watched:
    """A cluster of two devices, with a stage whose clock is turned by hand."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.clock = 0.0
        self.looks = 0
        self.answer: Ran | None = None
        cluster.driver.knobs.ran = self._ran
        self._stage = LostDevices(
            cluster.sessions,
            cluster.fleet,
            cluster.installation,
            grace_seconds=GRACE,
            clock=lambda: self.clock,
        )

    def _ran(self, container: str, command: object) -> Ran:
        self.looks += 1
        if self.answer is not None:
            return self.answer
        listed = " ".join(self.cluster.driver.spec(container).device_uuids)
        return Ran(exit_code=0, output=f"GPU 0: A100 (UUID: {listed})")

    def look(self, seconds: float = 0) -> None:
        self.clock += seconds
        self._stage.run_once({self.cluster.node_id})

    def run(self, **wishes: object) -> Lease:
        """A lease on one device that has been running for a while."""
        lease = self.cluster.run(gpu="1", **wishes)
        self.older(lease.id)
        return lease

    def older(self, lease_id: UUID) -> None:
        with self.cluster.sessions.begin() as session:
            session.execute(
                sa.update(Run)
                .where(Run.lease_id == lease_id)
                .values(started_at=Run.started_at - timedelta(minutes=10))
            )

    def device(self, lease_id: UUID, health: DeviceHealth, reason: str = "") -> UUID:
        """The device that the lease has is so from now on."""
        with self.cluster.sessions.begin() as session:
            found = session.execute(
                sa.select(Allocation.device_id)
                .join(Run, Run.id == Allocation.run_id)
                .where(Run.lease_id == lease_id, Allocation.released_at.is_(None))
            ).scalar_one()
            session.execute(
                sa.update(Device).where(Device.id == found).values(health=health, health_reason=reason)
            )
            return found

    def works(self, lease_id: UUID) -> None:
        """The lease has done something by itself, later than any look could have."""
        with self.cluster.sessions.begin() as session:
            moment = now(session) + timedelta(minutes=2)
            session.merge(
                Signal(
                    lease_id=lease_id, kind=SignalKind.CPU, value=1.0, known_since=moment, seen_at=moment,
                    active_at=moment,
                )
            )  # fmt: skip

    def restart(self, lease_id: UUID) -> None:
        ada = self.cluster.ada
        self.cluster.change(
            lease_id,
            lambda session, found, moment: device_faults.restart(session, found, principal=ada, now=moment),
        )

    def told(self, lease_id: UUID) -> list[str]:
        with self.cluster.sessions() as session:
            return list(
                session.execute(
                    sa.select(Event.kind)
                    .where(Event.lease_id == lease_id, Event.kind.like("lease.device_%"))
                    .order_by(Event.id)
                ).scalars()
            )


@pytest.fixture
def watched(database_url: str) -> Iterator[Watched]:
    with Cluster.opened(database_url, devices=2) as cluster:
        yield Watched(cluster)


def test_its_owner_is_told_once_and_nothing_is_taken(watched: Watched) -> None:
    lease = watched.run()
    watched.device(lease.id, DeviceHealth.LOST, "fell off the bus")
    for _ in range(3):
        watched.look(seconds=GRACE)
    found = watched.cluster.lease(lease.id)
    assert found.state == "running", "what it has in memory is its owner's to give up"
    assert "fell off the bus" in found.device_fault
    assert watched.told(lease.id) == ["lease.device_fault"]


def test_a_preemptible_one_goes_on_with_another(watched: Watched) -> None:
    lease = watched.run(preemptible=True)
    lost = watched.device(lease.id, DeviceHealth.LOST)
    watched.look()
    assert watched.cluster.lease(lease.id).state == "running", "it may come back"
    watched.look(seconds=GRACE)
    watched.cluster.work()
    assert (found := watched.cluster.lease(lease.id)).state == "queued"
    assert found.suspend_reason == "device"
    watched.cluster.plan()
    watched.cluster.work()
    assert (found := watched.cluster.lease(lease.id)).state == "running"
    assert found.device_fault == ""
    with watched.cluster.sessions() as session:
        now_has = session.execute(
            sa.select(Allocation.device_id).where(Allocation.released_at.is_(None))
        ).scalar_one()
    assert now_has != lost


def test_a_device_that_comes_back_in_time_moves_nobody(watched: Watched) -> None:
    lease = watched.run(preemptible=True)
    watched.device(lease.id, DeviceHealth.LOST)
    watched.look()
    watched.device(lease.id, DeviceHealth.OK)
    watched.look(seconds=GRACE - 1)
    watched.device(lease.id, DeviceHealth.LOST)
    watched.look(seconds=GRACE - 1)
    assert watched.cluster.lease(lease.id).state == "running"


def test_what_its_container_cannot_see_any_more_counts_from_the_second_look(watched: Watched) -> None:
    lease = watched.run()
    watched.answer = Ran(exit_code=255, output="Failed to initialize NVML: Unknown Error")
    watched.look()
    assert watched.cluster.lease(lease.id).device_fault == ""
    watched.look()
    assert "Unknown Error" in watched.cluster.lease(lease.id).device_fault
    watched.look()
    assert watched.looks == 2, "and not at every pass"
    assert watched.told(lease.id) == ["lease.device_fault"]


def test_restarted_by_its_owner_it_has_its_devices_again(watched: Watched) -> None:
    lease = watched.run()
    watched.answer = Ran(exit_code=255, output="Failed to initialize NVML: Unknown Error")
    watched.look()
    watched.look()
    driver = watched.cluster.driver
    (name,) = [one.name for one in driver.containers(watched.cluster.installation)]
    before = driver.inspect(name)
    watched.restart(lease.id)
    watched.cluster.work()
    found = watched.cluster.lease(lease.id)
    assert (found.state, found.device_fault, found.ends_at) == ("running", "", lease.ends_at)
    after = driver.inspect(name)
    assert before is not None
    assert after is not None
    assert before.id == after.id, "the same container, with its files"
    assert after.running
    assert before.started_at is not None
    assert after.started_at is not None
    assert after.started_at > before.started_at, "started anew"
    watched.look()
    assert watched.cluster.lease(lease.id).device_fault == "", "looks from before it do not count"
    with watched.cluster.sessions() as session:
        assert session.execute(sa.select(Run.stop_first)).scalars().all() == [False]


def test_restarted_with_a_dead_device_it_goes_on_with_another(watched: Watched) -> None:
    lease = watched.run()
    watched.device(lease.id, DeviceHealth.LOST)
    watched.look()
    watched.restart(lease.id)
    watched.cluster.work()
    watched.cluster.plan()
    watched.cluster.work()
    assert watched.cluster.lease(lease.id).state == "running"


def test_a_look_is_never_what_keeps_a_lease_from_being_idle(watched: Watched) -> None:
    lease = watched.run()
    watched.look()
    for _ in range(5):
        watched.look(seconds=LOOK_EVERY.total_seconds())
    assert watched.looks == 1, "it has done nothing since"
    watched.works(lease.id)
    watched.look()
    watched.look()
    assert watched.looks == 2, "it works, and is looked at once in a while"


def test_an_image_that_cannot_tell_is_left_alone(watched: Watched) -> None:
    lease = watched.run()
    watched.answer = Ran(exit_code=127, output="")
    watched.look()
    watched.look()
    watched.cluster.driver.knobs.down = True
    watched.look(seconds=LOOK_EVERY.total_seconds())
    assert watched.told(lease.id) == []


def test_only_what_runs_is_restarted(watched: Watched) -> None:
    lease = watched.run()
    watched.cluster.release(lease.id)
    for refused in (Gone,):
        with pytest.raises(refused):
            watched.restart(lease.id)
    waiting = watched.cluster.ask(gpu="2")
    with pytest.raises(Conflict, match="queued"):
        watched.restart(waiting.id)
