"""What has been: leases that ran, devices that were, at moments of a test's choosing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.accounting import Condition
from leasing.database import Sessions, now
from leasing.gpus import WHOLE
from leasing.model import (
    Allocation,
    Counting,
    Device,
    DeviceSpan,
    DeviceUsage,
    Lease,
    Node,
    NodeUsage,
    Project,
    Run,
    RunUse,
    User,
)
from leasing.service import cluster, installation
from leasing.service.used import hour_of
from leasing.states import DeviceHealth, EndReason, LeaseState, NodeHealth

A100 = "NVIDIA A100-SXM4-80GB"
GIB = 2**30


@dataclass
class Past:
    """A node that joined at `began`, the beginning of an hour."""

    session: Session
    node: Node
    began: datetime

    @classmethod
    def make(cls, session: Session, *, hours_ago: int) -> Past:
        """Every hour since is counted as looked at until now; nothing is sealed yet."""
        installation.get_or_create(session)
        moment = now(session)
        began = hour_of(moment) - timedelta(hours=hours_ago)
        node, _ = cluster.register_node(session, "local", driver="fake", address="")
        node.health, node.created_at = NodeHealth.READY, began
        session.execute(sa.update(NodeUsage).values(cpus_millis=10**9, memory_bytes=2**60))
        session.add(Counting(node_id=node.id, looked_at=moment, compared_at=moment, sealed_until=began))
        session.flush()
        return cls(session, node, began)

    def at(self, minutes: float) -> datetime:
        """So many minutes after it began."""
        return self.began + timedelta(minutes=minutes)

    def user(self, name: str) -> User:
        found = self.session.execute(sa.select(User).where(User.name == name)).scalar_one_or_none()
        if found is None:
            found = User(name=name, role="developer")
            self.session.add(found)
            self.session.flush()
        return found

    def device(
        self, *, since: float = 0, model: str = A100, condition: Condition | None = Condition.FREE
    ) -> Device:
        """One that was so all the time since it appeared; None: nobody has said how it was."""
        index = self.session.execute(sa.select(sa.func.count()).select_from(Device)).scalar_one()
        device = Device(
            node_id=self.node.id, uuid=f"GPU-{index}", index=index, model=model, memory_bytes=80 * GIB,
            health=DeviceHealth.OK, foreign_processes=[], sampled_at=now(self.session), created_at=self.at(since),
        )  # fmt: skip
        self.session.add(device)
        self.session.flush()
        self.session.add(DeviceUsage(device_id=device.id, share=WHOLE, memory_bytes=device.memory_bytes))
        if condition is not None:
            self.was(device, condition, since)
        self.session.flush()
        return device

    def was(self, device: Device, condition: Condition, since: float, until: float | None = None) -> None:
        """The span before it ends there."""
        self.session.execute(
            sa.update(DeviceSpan)
            .where(DeviceSpan.device_id == device.id, DeviceSpan.until.is_(None))
            .values(until=self.at(since))
        )
        self.session.add(
            DeviceSpan(
                device_id=device.id, condition=condition, since=self.at(since),
                until=None if until is None else self.at(until),
            )
        )  # fmt: skip
        self.session.flush()

    def lease(self, name: str, owner: str = "ada", *, state: LeaseState = LeaseState.ENDED) -> Lease:
        ended = state is LeaseState.ENDED
        project = self.session.execute(sa.select(Project).where(Project.name == "default")).scalar_one()
        lease = Lease(
            name=name, owner_id=self.user(owner).id, project_id=project.id, image="x", gpu_count=1, cpus_millis=2000,
            memory_bytes=GIB, state=state, ttl_seconds=3600, ends_at=self.at(10**6),
            reason=EndReason.RELEASED if ended else None, ended_at=self.at(0) if ended else None,
        )  # fmt: skip
        self.session.add(lease)
        self.session.flush()
        return lease

    def run(
        self,
        lease: Lease,
        start: float | None,
        stop: float | None,
        *,
        parts: dict[Device, int] | None = None,
        placed: float | None = None,
        released: float | None = None,
    ) -> Run:
        """Its container ran from minute to minute; it was placed, and released, at these minutes too unless told."""
        stopped = None if stop is None else self.at(stop)
        gone = self.at(released) if released is not None else stopped
        begun = placed if placed is not None else start
        assert begun is not None, "a run is placed at some time"
        count = sa.select(sa.func.count()).select_from(Run).where(Run.lease_id == lease.id)
        run = Run(
            lease_id=lease.id, generation=self.session.execute(count).scalar_one() + 1, node_id=self.node.id,
            cpus_millis=lease.cpus_millis, memory_bytes=0, placed_at=self.at(begun),
            started_at=None if start is None else self.at(start), stopped_at=stopped, released_at=gone,
        )  # fmt: skip
        self.session.add(run)
        self.session.flush()
        for device, share in (parts or {}).items():
            self.session.add(
                Allocation(
                    run_id=run.id, device_id=device.id, share=share, memory_bytes=0, created_at=self.at(begun),
                    released_at=gone,
                )
            )  # fmt: skip
        self.session.flush()
        return run

    def used(self, run: Run, hour: int, model: str, measured: float, used: float, memory: float = 0) -> None:
        """What samples have added up, in the hour of that number."""
        self.session.add(
            RunUse(
                run_id=run.id, hour=self.at(60 * hour), model=model, measured=measured, used=used,
                memory_byte_seconds=memory,
            )
        )  # fmt: skip
        self.session.flush()


def past(sessions: Sessions, *, hours_ago: int = 6) -> Past:
    """One of its own session, to be committed by the test."""
    return Past.make(sessions(), hours_ago=hours_ago)
