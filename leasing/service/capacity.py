"""Where devices' time went, as admins ask for it. The classes of every line sum to its capacity."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import Invalid
from leasing.schema.usage import DeviceBy, DeviceUsagePage, DeviceUsageRow
from leasing.service import counting, usage
from leasing.service.periods import Period

CLASSES = ("leased", "held", "free", "foreign_use", "out", "unknown")
HOURS = """
    WITH hours AS (
        SELECT device_id, hour, capacity, leased, held, free, foreign_use, out, unknown FROM device_hour
        UNION ALL
        SELECT * FROM jsonb_to_recordset(CAST(:live AS jsonb)) AS live (
            device_id uuid, hour timestamptz, capacity bigint, leased bigint, held bigint, free bigint,
            foreign_use bigint, out bigint, unknown bigint
        )
    ), chosen AS (
        SELECT hours.*, device.uuid, device.model, node.name AS node
        FROM hours JOIN device ON device.id = hours.device_id JOIN node ON node.id = device.node_id
        WHERE hour >= :since AND hour < :until
    )
"""
SUMS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in ("capacity", *CLASSES))
KEYS = {
    DeviceBy.HOUR: """to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"')""",
    DeviceBy.DAY: "to_char(hour AT TIME ZONE :zone, 'YYYY-MM-DD')",
    DeviceBy.DEVICE: "node || '/' || uuid",
    DeviceBy.MODEL: "model",
    DeviceBy.NODE: "node",
}
LINES = {
    by: sa.text(f"""
        {HOURS}, lines AS (
            SELECT {key} AS key, max(uuid) AS uuid, max(node) AS node, max(model) AS model, {SUMS}
            FROM chosen GROUP BY 1
        )
        SELECT * FROM lines WHERE CAST(:after AS text) IS NULL OR key > :after ORDER BY key LIMIT :limit
    """)  # noqa: S608 - every part of it stands above
    for by, key in KEYS.items()
}
TOTAL = sa.text(f"{HOURS} SELECT {SUMS} FROM chosen")  # noqa: S608 - every part of it stands above


def page(
    session: Session, period: Period, by: DeviceBy, *, now: datetime, cursor: str | None = None, limit: int
) -> DeviceUsagePage:
    """One line for each hour, day, device, model or node, in order. Raises `Invalid` for a cursor that is none."""
    if cursor is not None and ("\0" in cursor or len(cursor) > 300):
        raise Invalid(
            f"{cursor[:40]!r} is not a page's cursor.", hint="Take it from `next` of the page before."
        )
    live = counting.unsealed(session, since=period.since, until=period.until, now=now).devices
    plain = [row | {"device_id": str(row["device_id"]), "hour": row["hour"].isoformat()} for row in live]
    values = {"live": json.dumps(plain), "since": period.since, "until": period.until}
    found = session.execute(
        LINES[by], values | {"after": cursor, "limit": limit + 1, "zone": period.zone}
    ).all()
    total = session.execute(TOTAL, values).one()
    return DeviceUsagePage(
        since=period.since,
        until=period.until,
        zone=period.zone,
        by=by,
        sealed_until=usage.sealed_until(session),
        items=[_row(by, row) for row in found[:limit]],
        total=DeviceUsageRow(key="", **_seconds(total)),
        next=found[limit - 1].key if len(found) > limit else None,
    )


def _row(by: DeviceBy, row: sa.Row[Any]) -> DeviceUsageRow:
    one = by is DeviceBy.DEVICE
    return DeviceUsageRow(
        key=row.uuid if one else row.key,
        node=row.node if one else None,
        model=row.model if one else None,
        **_seconds(row),
    )


def _seconds(row: sa.Row[Any]) -> dict[str, float]:
    classes = {name: float(getattr(row, name)) / counting.NANO for name in ("capacity", *CLASSES)}
    classes["foreign"] = classes.pop("foreign_use")
    return classes
