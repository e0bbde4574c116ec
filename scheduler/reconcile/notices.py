"""Stage: containers whose own info file names an old deadline are told the new one."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.errors import DriverError
from leasing.model import Lease, Run
from leasing.states import LeaseState
from scheduler.fleet import Fleet
from scheduler.info import write_info

log = logging.getLogger(__name__)


def run_once(sessions: Sessions, fleet: Fleet, installation: str) -> None:
    """Write each file that is out of date; one that cannot be written is tried in the next pass."""
    with sessions() as session:
        due = session.execute(
            sa.select(Lease.id, Lease.name, Lease.ends_at, Run.generation, Run.node_id)
            .join(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
            .where(Lease.state == LeaseState.RUNNING, Lease.told_ends_at.is_distinct_from(Lease.ends_at))
        ).all()
    for lease_id, name, ends_at, generation, node_id in due:
        container = names.container(installation, lease_id, generation)
        try:
            engine = fleet.engine(node_id)
            assert ends_at is not None, "a running lease has a deadline: the database says so"
            write_info(sessions, engine, container, lease_id=lease_id, name=name, ends_at=ends_at)
        except DriverError as error:
            log.info("info not written yet lease=%s error=%s", lease_id, error)
