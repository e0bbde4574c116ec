"""A lease that lost a device: its owner is told, and it starts again where it can."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Conflict, Gone
from leasing.model import Allocation, Device, Lease, Run
from leasing.service import events, transitions
from leasing.service.principal import Principal
from leasing.states import Cause, DeviceHealth, Goal, LeaseState, SuspendReason


def words(devices: Sequence[str]) -> str:
    """What is wrong when these `devices` of a lease are not well."""
    return f"{' and '.join(devices)} {'is' if len(devices) == 1 else 'are'} out of order"


def tell(session: Session, lease: Lease, fault: str, *, actor: str) -> None:
    """Write down what is wrong with the lease's devices, or that nothing is (empty). Once for each change."""
    if lease.device_fault == fault:
        return
    lease.device_fault = fault
    if not fault:
        events.record(
            session, "lease.device_back", "its devices are well again", actor=actor, lease_id=lease.id
        )
        return
    said = f"{fault}. What needs a device fails until it is restarted: lease restart {lease.name}"
    events.record(session, "lease.device_fault", said, actor=actor, lease_id=lease.id)


def move_away(session: Session, lease: Lease, *, actor: str, now: datetime) -> None:
    """Suspend a running lease that has lost a device: it queues again by itself, and goes on with another."""
    lease.suspend_reason = SuspendReason.DEVICE
    transitions.move(
        session, lease, LeaseState.STOPPING, Cause.RECONCILER,
        now=now, actor=actor, message=f"{lease.device_fault}; it goes on with another", goal=Goal.SUSPENDED,
    )  # fmt: skip


def restart(session: Session, lease: Lease, *, principal: Principal, now: datetime) -> None:
    """Stop what runs in the lease and start it again, with its files; its devices are attached anew.

    If one of them is out of order it is suspended, and goes on with others when there are any. Idempotent while it is
    being restarted. The caller holds the row's lock. Raises `Conflict` unless it runs, `Gone` once it ends.
    """
    state = LeaseState(lease.state)
    if state is LeaseState.ENDED or lease.goal == Goal.ENDED:
        raise Gone(f"Lease {lease.name!r} is over.", hint=f"Start anew: lease up {lease.name}")
    if state in (LeaseState.PLACED, LeaseState.STARTING):
        return
    if state is not LeaseState.RUNNING:
        raise Conflict(
            f"Lease {lease.name!r} is {state}: only what runs can be restarted.",
            hint=f"See why: lease why {lease.name}",
        )
    run = session.execute(
        sa.select(Run).where(Run.lease_id == lease.id, Run.released_at.is_(None))
    ).scalar_one()
    healths = session.execute(
        sa.select(Device.health)
        .join(Allocation, Allocation.device_id == Device.id)
        .where(Allocation.run_id == run.id, Allocation.released_at.is_(None))
    ).scalars()
    if any(health != DeviceHealth.OK for health in healths):
        lease.suspend_reason = SuspendReason.DEVICE
        transitions.move(
            session, lease, LeaseState.STOPPING, Cause.USER,
            now=now, actor=principal.actor, goal=Goal.SUSPENDED,
            message=f"{principal.name} restarted it: {lease.device_fault or 'a device is out of order'}",
        )  # fmt: skip
        return
    run.stop_first = True
    lease.device_fault = ""
    transitions.move(
        session, lease, LeaseState.STARTING, Cause.USER,
        now=now, actor=principal.actor, message=f"{principal.name} restarted it",
    )  # fmt: skip
