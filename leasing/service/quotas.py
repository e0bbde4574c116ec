"""Ceilings: what a user and a project may have together, checked wherever a lease is asked for, renewed or resumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NotFound, OverQuota
from leasing.gpus import WHOLE
from leasing.model import Lease, Quota
from leasing.service import holdings
from leasing.service.holdings import Holding
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState
from leasing.units import format_duration

HOUR = 3600
ROUNDING = 1e-6
"""Device-seconds that are nothing: sums of fractions come out a little off."""

# The user's row is reached through the project's, and so is locked after it.
_LOCK = sa.text("""
    WITH held AS MATERIALIZED (SELECT name FROM project WHERE id = :project FOR KEY SHARE)
    SELECT held.name AS project, users.name AS owner FROM held JOIN users ON users.id = :owner
    FOR NO KEY UPDATE OF users
""")


@dataclass(frozen=True)
class Ceiling:
    """What a user or a project may have together; None: no limit."""

    name: str
    whose: sa.ColumnElement[bool]
    """Selects its leases."""
    max_devices: float | None
    max_leases: int | None
    device_hours: float | None
    window: timedelta
    shared: bool
    """A project's."""

    @property
    def limited(self) -> bool:
        return (self.max_devices, self.max_leases, self.device_hours) != (None, None, None)

    def __str__(self) -> str:
        return f"project {self.name}" if self.shared else self.name


def of_user(name: str, user_id: UUID, own: Quota | None, limits: LimitSettings) -> Ceiling:
    """What a user may have: the platform's defaults where an admin set nothing else."""
    devices, leases = (own.max_devices, own.max_leases) if own else (None, None)
    return Ceiling(
        name,
        Lease.owner_id == user_id,
        limits.devices_per_user if devices is None else devices,
        limits.leases_per_user if leases is None else leases,
        own.device_hours if own else None,
        timedelta(hours=(own.window_hours if own else None) or 0),
        shared=False,
    )


def of_project(name: str, project_id: UUID, own: Quota | None) -> Ceiling:
    """What a project may have: everything, unless an admin set a limit."""
    if own is None:
        return Ceiling(name, Lease.project_id == project_id, None, None, None, timedelta(), shared=True)
    window = timedelta(hours=own.window_hours or 0)
    return Ceiling(
        name, Lease.project_id == project_id, own.max_devices, own.max_leases, own.device_hours, window, shared=True
    )  # fmt: skip


def check_request(session: Session, lease: Lease, limits: LimitSettings, *, now: datetime) -> None:
    """Raises `OverQuota` if a lease that is not written yet would put its user or its project over a limit.

    What they have cannot grow by other hands until the transaction ends: of two asks at once the second sees the first.
    """
    _check(session, lease, limits, seconds=_seconds(lease, now), anew=True, now=now)
    _check_resting(session, lease, limits)


def check_resume(session: Session, lease: Lease, limits: LimitSettings, *, now: datetime) -> None:
    """Raises `OverQuota` if a suspended lease, which does not count, would put them over a limit by going on.

    Its time must be as it will wait with: `ends_at`, else `until`, else `ttl_seconds` from its start.
    """
    _check(session, lease, limits, seconds=_seconds(lease, now), anew=True, now=now)


def _check_resting(session: Session, lease: Lease, limits: LimitSettings) -> None:
    """What rests holds no device, but files: nobody piles them up without end by asking for one lease after another."""
    resting = session.execute(
        sa.select(sa.func.count()).where(
            Lease.owner_id == lease.owner_id, Lease.state == LeaseState.SUSPENDED
        )
    ).scalar_one()
    if resting >= limits.suspended_per_user:
        raise OverQuota(
            f"You have {resting} suspended leases, whose files are kept; the limit is {limits.suspended_per_user}.",
            hint="Release what you need no more, or resume it: lease ls; lease release NAME",
        )


def check_renewal(
    session: Session, lease: Lease, until: datetime, limits: LimitSettings, *, now: datetime
) -> None:
    """Raises `OverQuota` if a live lease that goes on until then takes more device-hours than are left.

    Call it before the lease's own time is changed. The caller holds the row's lock; users and projects come after it.
    """
    more = (until - now).total_seconds() - _seconds(lease, now)
    if more > 0:
        _check(session, lease, limits, seconds=more, anew=False, now=now)


def _seconds(lease: Lease, now: datetime) -> float:
    """How long it may yet run, from now or from its start on."""
    end = lease.ends_at or lease.until
    return max(0.0, (end - now).total_seconds()) if end is not None else float(lease.ttl_seconds or 0)


def _check(
    session: Session, lease: Lease, limits: LimitSettings, *, seconds: float, anew: bool, now: datetime
) -> None:
    share = lease.gpu_count * lease.gpu_share
    for ceiling in _locked(session, lease, limits):
        if not ceiling.limited:
            continue
        held = holdings.held(session, ceiling.whose, now=now)
        if anew:
            _check_held(ceiling, held, share)
        if share and ceiling.device_hours is not None:
            _check_hours(session, ceiling, held, share / WHOLE, seconds, now)


def _locked(session: Session, lease: Lease, limits: LimitSettings) -> list[Ceiling]:
    """The ceilings over a lease, locked in this order everywhere: that the project is, the user, the project's quota.

    Who sets a quota takes the user's or the project's row for itself, and so waits for every ask that did not see it.
    The project's row is not taken for an ask: the planner writes what it has used, and no ask waits for a plan.
    """
    names = session.execute(_LOCK, {"project": lease.project_id, "owner": lease.owner_id}).one_or_none()
    if names is None:
        raise NotFound("That project was deleted just now.", hint="lease projects shows yours.")
    # a statement of its own: what was set while the rows were waited for is not in the view of the one that waited
    of = sa.select(Quota).execution_options(populate_existing=True)
    quotas = session.execute(
        of.where(sa.or_(Quota.user_id == lease.owner_id, Quota.project_id == lease.project_id))
    ).scalars()
    found = {quota.user_id or quota.project_id: quota for quota in quotas}
    own, shared = found.get(lease.owner_id), found.get(lease.project_id)
    if shared is not None:
        shared = session.execute(
            of.where(Quota.id == shared.id).with_for_update(key_share=True)
        ).scalar_one_or_none()
    return [
        of_user(names.owner, lease.owner_id, own, limits),
        of_project(names.project, lease.project_id, shared),
    ]


def _check_held(ceiling: Ceiling, held: Holding, share: int) -> None:
    most = ceiling.max_devices
    wanted = held.share + share
    free = (
        "Wait until one of its leases ends (lease quota)" if ceiling.shared else "Release a lease (lease ls)"
    )
    if share and most is not None and wanted > round(most * WHOLE):
        raise OverQuota(
            f"That would be {wanted / WHOLE:g} devices for {ceiling}; the limit is {most:g} "
            f"({held.devices:g} held or waited for now).",
            hint=f"{free}, ask for fewer, or ask an admin for a higher limit.",
        )
    if ceiling.max_leases is not None and held.leases + 1 > ceiling.max_leases:
        raise OverQuota(
            f"That would be {held.leases + 1} live leases for {ceiling}; the limit is {ceiling.max_leases}.",
            hint=f"{free}, or ask an admin for a higher limit.",
        )


def _check_hours(
    session: Session, ceiling: Ceiling, held: Holding, devices: float, seconds: float, now: datetime
) -> None:
    most = (ceiling.device_hours or 0.0) * HOUR
    uses = holdings.used(session, ceiling.whose, since=now - ceiling.window, now=now)
    used = holdings.device_seconds(uses)
    wanted = used + held.to_come + devices * seconds
    if wanted <= most + ROUNDING:
        return
    left = int((most - used - held.to_come) / devices)
    at = holdings.leaves_window(uses, wanted - most, ceiling.window)
    ways = [
        f"There is room for {format_duration(left)} of it" if left >= 60 else "",
        f"all of it fits from {at:%Y-%m-%d %H:%M %Z} on" if at else "",
        "lease quota shows what counts; an admin can set a higher limit",
    ]
    said = "; ".join(way for way in ways if way)
    raise OverQuota(
        f"That would be {wanted / HOUR:.4g} device-hours for {ceiling}; the limit is {most / HOUR:g} in any "
        f"{format_duration(ceiling.window.total_seconds())} ({used / HOUR:.4g} used, {held.to_come / HOUR:.4g} "
        f"still to come of live leases, {devices * seconds / HOUR:.4g} asked for).",
        hint=f"{said[0].upper()}{said[1:]}.",
    )
