"""Stage: each container can read about its own lease in /run/lease/info.json, written anew when the deadline moves."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.drivers.protocol import Lifecycle
from leasing.drivers.spec import INFO
from leasing.errors import DriverError
from leasing.states import LeaseState
from scheduler.fleet import Fleet

log = logging.getLogger(__name__)
DUE = sa.text("""
    SELECT lease.id, lease.name, ends_at, generation, node.id, driver, node.address
    FROM lease JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL JOIN node ON node.id = run.node_id
    WHERE lease.state = :state AND told_ends_at IS DISTINCT FROM ends_at
""")
TOLD = sa.text("UPDATE lease SET told_ends_at = :ends_at WHERE id = :lease")


def run_once(sessions: Sessions, fleet: Fleet, installation: str) -> None:
    """Write each file that is out of date; one that cannot be written is tried in the next pass."""
    with sessions() as session:
        due = session.execute(DUE, {"state": LeaseState.RUNNING.value}).all()
    for lease_id, name, ends_at, generation, *node in due:
        container = names.container(installation, lease_id, generation)
        try:
            engine = fleet.connected(*node)
            _write(sessions, engine, container, lease_id=lease_id, name=name, ends_at=ends_at)
        except DriverError as error:
            log.info("info not written yet lease=%s error=%s", lease_id, error)


def _write(
    sessions: Sessions, engine: Lifecycle, container: str, *, lease_id: UUID, name: str, ends_at: datetime
) -> None:
    """Write the file, and note in the row which deadline stands in it."""
    told = {"lease": str(lease_id), "name": name, "ends_at": ends_at.isoformat()}
    engine.write_file(container, INFO, (json.dumps(told, indent=2) + "\n").encode())
    with sessions.begin() as session:
        session.execute(TOLD, {"lease": lease_id, "ends_at": ends_at})
