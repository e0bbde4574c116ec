"""Stage: each container can read about its own lease in /run/lease/info.json, written anew when a deadline
moves or it is warned."""

from __future__ import annotations

import json
import logging
from uuid import UUID

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.drivers.spec import INFO
from leasing.errors import DriverError
from leasing.service.notices import said
from leasing.states import LeaseState
from scheduler.away import AWAY
from scheduler.fleet import Fleet

log = logging.getLogger(__name__)
DUE = sa.text(f"""
    SELECT lease.id, lease.name, ends_at, warned.deadline, warned.message,
        generation, node.id, driver, node.address
    FROM lease JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL JOIN node ON node.id = run.node_id
    LEFT JOIN LATERAL (
        SELECT deadline, message FROM notice
        WHERE notice.lease_id = lease.id AND channel = 'web' AND step_seconds > 0 AND deadline >
            now() - interval '1 minute' AND abs(extract(epoch FROM deadline -
            CASE kind WHEN 'idle' THEN reclaim_at WHEN 'expiry' THEN ends_at END)) <= 60
        ORDER BY deadline, step_seconds LIMIT 1
    ) AS warned ON true
    WHERE lease.state = :state AND NOT {AWAY} AND (CAST(:only AS uuid) IS NULL OR lease.id = :only)
        AND (told_ends_at IS DISTINCT FROM ends_at OR told_reclaim_at IS DISTINCT FROM warned.deadline)
""")  # noqa: S608 - of a condition that names no value
TOLD = sa.text("UPDATE lease SET told_ends_at = :ends_at, told_reclaim_at = :reclaim_at WHERE id = :lease")


def run_once(sessions: Sessions, fleet: Fleet, installation: str, *, only: UUID | None = None) -> None:
    """Write each file that is out of date; one that cannot be written is tried in the next pass."""
    with sessions() as session:
        due = session.execute(DUE, {"state": LeaseState.RUNNING.value, "only": only}).all()
    for lease_id, name, ends_at, reclaim_at, message, generation, *node in due:
        container = names.container(installation, lease_id, generation)
        told = {"lease": str(lease_id), "name": name, "ends_at": ends_at.isoformat()}
        if reclaim_at is not None:
            told |= {"reclaim_at": reclaim_at.isoformat(), "warning": f"{message} {said(reclaim_at)}"}
        try:
            engine = fleet.connected(*node)
            engine.write_file(container, INFO, (json.dumps(told, indent=2) + "\n").encode())
        except DriverError as error:
            log.info("info not written yet lease=%s error=%s", lease_id, error)
            continue
        with sessions.begin() as session:
            session.execute(TOLD, {"lease": lease_id, "ends_at": ends_at, "reclaim_at": reclaim_at})
