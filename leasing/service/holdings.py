"""What a user or a project holds and has used, as quotas count it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.gpus import WHOLE
from leasing.model import Allocation, Lease, Run
from leasing.states import GOES_ON_BY_ITSELF, Goal, LeaseState

COUNTED = (LeaseState.ENDED, LeaseState.SUSPENDED)
"""All states but these count as held: who is suspended is asked again when it is resumed."""


@dataclass(frozen=True)
class Holding:
    """Live leases together: how many, their devices, and the device-seconds until their deadlines."""

    leases: int
    share: int
    """Thousandths of devices."""
    to_come: float

    @property
    def devices(self) -> float:
        return self.share / WHOLE


@dataclass(frozen=True)
class Use:
    """A part of a device, for a time that lies behind; `devices` is less than 1 for a share."""

    devices: float
    starts_at: datetime
    ends_at: datetime

    @property
    def device_seconds(self) -> float:
        return self.devices * (self.ends_at - self.starts_at).total_seconds()


def held(session: Session, whose: sa.ColumnElement[bool], *, now: datetime) -> Holding:
    """Of the leases that `whose` selects, waiting ones with all that they asked for.

    A part of a device counts as such; one asked for by its memory counts as the part that it is of the largest device.
    """
    # What is being stopped needs no more time, unless it then waits again and goes on by itself.
    leaves = sa.and_(
        Lease.state == LeaseState.STOPPING,
        sa.or_(
            Lease.goal == Goal.ENDED, sa.func.coalesce(Lease.suspend_reason, "").not_in(GOES_ON_BY_ITSELF)
        ),
    )
    left = sa.func.greatest(0, sa.func.extract("epoch", sa.func.coalesce(Lease.ends_at, Lease.until) - now))
    seconds = sa.case(
        (leaves, 0),
        (sa.func.coalesce(Lease.ends_at, Lease.until).is_not(None), left),
        else_=Lease.ttl_seconds,
    )
    devices = Lease.gpu_count * Lease.gpu_share
    count, share, to_come = session.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(devices), 0),
            sa.func.coalesce(sa.func.sum(devices * seconds), 0),
        ).where(whose, Lease.state.not_in(COUNTED))
    ).one()
    return Holding(count, share, float(to_come) / WHOLE)


def used(session: Session, whose: sa.ColumnElement[bool], *, since: datetime, now: datetime) -> list[Use]:
    """What leases that `whose` selects have had of devices from `since` on, oldest first.

    As much of each device as the lease asked for counts, from its placement until it gave it back.
    """
    rows = session.execute(
        sa.select(Lease.gpu_share, Allocation.created_at, Allocation.released_at)
        .join(Run, Run.lease_id == Lease.id)
        .join(Allocation, Allocation.run_id == Run.id)
        .where(
            whose,
            sa.or_(Lease.ended_at.is_(None), Lease.ended_at > since),
            sa.or_(Allocation.released_at.is_(None), Allocation.released_at > since),
        )
    )
    found = (
        # what changed since `now` was read, while others were waited for, counts as well
        Use(share / WHOLE, max(since, created_at), released_at or max(now, created_at))
        for share, created_at, released_at in rows
    )
    return sorted(found, key=lambda use: use.starts_at)


def device_seconds(uses: Iterable[Use]) -> float:
    return sum(use.device_seconds for use in uses)


def leaves_window(uses: Iterable[Use], amount: float, window: timedelta) -> datetime | None:
    """When so many device-seconds of them will have left a window of that length, the oldest first; None: never all."""
    steps: dict[datetime, float] = {}
    for use in uses:
        steps[use.starts_at] = steps.get(use.starts_at, 0.0) + use.devices
        steps[use.ends_at] = steps.get(use.ends_at, 0.0) - use.devices
    rate = 0.0
    for start, end in pairwise(sorted(steps)):
        rate += steps[start]
        seconds = (end - start).total_seconds()
        if rate > 0 and rate * seconds >= amount:
            return start + timedelta(seconds=amount / rate) + window
        amount -= rate * seconds
    return None
