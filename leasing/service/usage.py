"""Usage as people ask for it: what was allocated and used, by lease, user, project, model or day."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Invalid
from leasing.model import Counting
from leasing.schema.usage import UsageAmounts, UsageBy, UsagePage, UsageRow
from leasing.service import counting
from leasing.service.periods import Period
from leasing.service.principal import Principal
from leasing.states import ProjectRole

MAX_PAGE = 1000
ALL = 1_000_000
"""Lines in a sheet at most."""

# What is sealed comes from its rows, the rest is handed in as JSON: so one statement groups, orders and cuts it.
HOURS = """
    WITH hours AS (
        SELECT lease_id, owner_id, project_id, hour, model, ran_ns, allocated_ns, cpu_allocated_ns,
            memory_allocated_byte_seconds, measured_seconds, used_seconds, memory_used_byte_seconds
        FROM usage_hour
        UNION ALL
        SELECT * FROM jsonb_to_recordset(CAST(:live AS jsonb)) AS live (
            lease_id uuid, owner_id uuid, project_id uuid, hour timestamptz, model text, ran_ns bigint,
            allocated_ns bigint, cpu_allocated_ns bigint, memory_allocated_byte_seconds double precision,
            measured_seconds double precision, used_seconds double precision,
            memory_used_byte_seconds double precision
        )
    ), priced AS (
        SELECT model, (
            SELECT per_hour FROM price WHERE strpos(lower(hours.model), lower(price.model)) > 0
            ORDER BY length(price.model) DESC, price.model LIMIT 1
        ) AS per_hour
        FROM (SELECT DISTINCT model FROM hours) AS hours
    ), chosen AS (
        SELECT hours.*, priced.per_hour, lease.name AS lease, users.name AS owner, project.name AS project
        FROM hours
        JOIN priced ON priced.model = hours.model
        JOIN lease ON lease.id = hours.lease_id
        JOIN users ON users.id = hours.owner_id
        JOIN project ON project.id = hours.project_id
        WHERE hours.hour >= :since AND hours.hour < :until
            AND (hours.owner_id = :caller OR (:others AND (:admin OR hours.project_id IN (
                SELECT project_id FROM member WHERE user_id = :caller AND role = :owner_role
            ))))
            AND (CAST(:user AS text) IS NULL OR users.name = :user)
            AND (CAST(:project AS text) IS NULL OR project.name = :project)
            AND (CAST(:lease AS text) IS NULL OR lease.name = :lease OR lease.id::text = :lease)
            AND (CAST(:model AS text) IS NULL OR strpos(lower(hours.model), lower(:model)) > 0)
    )
"""
SUMS = """
    coalesce(sum(allocated_ns), 0) AS allocated,
    coalesce(sum(measured_seconds) FILTER (WHERE model <> ''), 0) AS measured,
    sum(used_seconds) FILTER (WHERE model <> '') AS used,
    coalesce(sum(cpu_allocated_ns), 0) AS cpu_allocated,
    coalesce(sum(measured_seconds) FILTER (WHERE model = ''), 0) AS cpu_measured,
    sum(used_seconds) FILTER (WHERE model = '') AS cpu_used,
    coalesce(sum(ran_ns) FILTER (WHERE model = ''), 0) AS ran,
    coalesce(sum(memory_allocated_byte_seconds), 0) AS memory_allocated,
    sum(memory_used_byte_seconds) AS memory_used,
    CASE WHEN count(*) FILTER (WHERE allocated_ns > 0 AND per_hour IS NULL) = 0
        THEN coalesce(sum(allocated_ns / 3.6e12 * per_hour), 0) END AS cost
"""
KEYS = {
    UsageBy.LEASE: "lease_id::text",
    UsageBy.USER: "owner",
    UsageBy.PROJECT: "project",
    UsageBy.MODEL: "model",
    UsageBy.DAY: "to_char(hour AT TIME ZONE :zone, 'YYYY-MM-DD')",
}
LINES = {
    by: sa.text(f"""
        {HOURS}, lines AS (
            SELECT {key} AS key, max(lease) AS lease, max(owner) AS owner, max(project) AS project, {SUMS}
            FROM chosen GROUP BY 1
        ), placed AS (SELECT lines.*, {"0" if by is UsageBy.DAY else "allocated"} AS place FROM lines)
        SELECT * FROM placed
        WHERE CAST(:place AS numeric) IS NULL OR place < :place OR (place = :place AND key > :key)
        ORDER BY place DESC, key LIMIT :limit
    """)  # noqa: S608 - every part of it stands above
    for by, key in KEYS.items()
}
TOTAL = sa.text(f"{HOURS} SELECT {SUMS} FROM chosen")  # noqa: S608 - every part of it stands above
OF_A_LIVE_ROW = (
    "lease_id", "owner_id", "project_id", "hour", "model", "ran_ns", "allocated_ns", "cpu_allocated_ns",
    "memory_allocated_byte_seconds", "measured_seconds", "used_seconds", "memory_used_byte_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Which hours, and of whom. `others`: of everybody whom the caller may see, not only the caller's own."""

    period: Period
    by: UsageBy = UsageBy.LEASE
    others: bool = False
    user: str | None = None
    project: str | None = None
    lease: str | None = None
    model: str | None = None


def page(
    session: Session,
    wanted: Wanted,
    *,
    principal: Principal,
    now: datetime,
    cursor: str | None = None,
    limit: int,
) -> UsagePage:
    """Users see their own; owners of projects, with `others`, their projects'; admins everybody's.

    Raises `Invalid` for a cursor that is none.
    """
    place, key = _cursor(cursor)
    values = _values(session, wanted, principal, now)
    found = session.execute(
        LINES[wanted.by],
        values | {"place": place, "key": key, "limit": limit + 1, "zone": wanted.period.zone},
    ).all()
    total = session.execute(TOTAL, values).one()
    last = found[limit - 1] if len(found) > limit else None
    return UsagePage(
        since=wanted.period.since,
        until=wanted.period.until,
        zone=wanted.period.zone,
        by=wanted.by,
        sealed_until=sealed_until(session),
        items=[_row(wanted.by, row) for row in found[:limit]],
        total=UsageAmounts(**_amounts(total)),
        priced=bool(session.execute(sa.text("SELECT EXISTS (SELECT FROM price)")).scalar_one()),
        next=_next(str(last.place), last.key) if last is not None else None,
    )


def sealed_until(session: Session) -> datetime | None:
    """Hours before it change no more, on any node."""
    return session.execute(sa.select(sa.func.min(Counting.sealed_until))).scalar_one()


def _values(session: Session, wanted: Wanted, principal: Principal, now: datetime) -> dict[str, Any]:
    period = wanted.period
    live = counting.unsealed(session, since=period.since, until=period.until, now=now)
    others = wanted.others or wanted.user is not None or wanted.project is not None
    return {
        "live": json.dumps([_plain(row) for row in live.runs]), "since": period.since, "until": period.until,
        "caller": principal.user_id, "admin": principal.admin, "others": others,
        "owner_role": ProjectRole.OWNER.value, "user": wanted.user, "project": wanted.project, "lease": wanted.lease,
        "model": wanted.model,
    }  # fmt: skip


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it."""
    return {
        name: str(value) if isinstance(value := row[name], (UUID, datetime)) else value
        for name in OF_A_LIVE_ROW
    }


def _row(by: UsageBy, row: sa.Row[Any]) -> UsageRow:
    if by is not UsageBy.LEASE:
        return UsageRow(key=row.key, **_amounts(row))
    return UsageRow(
        key=row.key,
        lease_id=UUID(row.key),
        lease=row.lease,
        owner=row.owner,
        project=row.project,
        **_amounts(row),
    )


def _amounts(row: sa.Row[Any]) -> dict[str, float | None]:
    measured, used = float(row.measured), None if row.used is None else float(row.used)
    return {
        "device_allocated_seconds": float(row.allocated) / counting.NANO,
        "device_measured_seconds": measured,
        "device_used_seconds": used,
        "device_used_ratio": used / measured if used is not None and measured > 0 else None,
        "cpu_allocated_seconds": float(row.cpu_allocated) / counting.NANO,
        "cpu_measured_seconds": float(row.cpu_measured),
        "cpu_used_seconds": row.cpu_used,
        "ran_seconds": float(row.ran) / counting.NANO,
        "memory_allocated_byte_seconds": float(row.memory_allocated),
        "memory_used_byte_seconds": row.memory_used,
        "cost": None if row.cost is None else float(row.cost),
    }


def _next(*after: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode()


def _cursor(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    try:
        place, key = json.loads(base64.b64decode(text, altchars=b"-_", validate=True))
        if not (isinstance(place, str) and place.isascii() and place.isdigit() and len(place) < 40):
            raise ValueError(place)
        if not isinstance(key, str) or "\0" in key:
            raise ValueError(key)
    except (ValueError, TypeError, binascii.Error):
        raise Invalid(
            f"{text[:40]!r} is not a page's cursor.", hint="Take it from `next` of the page before."
        ) from None
    return place, key
