"""What a container can read about its own lease: /run/lease/info.json, written anew when the deadline moves."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leasing.database import Sessions
from leasing.drivers.protocol import Lifecycle
from leasing.drivers.spec import INFO
from leasing.model import Lease


def write_info(
    sessions: Sessions, engine: Lifecycle, container: str, *, lease_id: UUID, name: str, ends_at: datetime
) -> None:
    """Write the file, and note in the row which deadline stands in it."""
    told = {"lease": str(lease_id), "name": name, "ends_at": ends_at.isoformat()}
    engine.write_file(container, INFO, (json.dumps(told, indent=2) + "\n").encode())
    with sessions.begin() as session:
        session.execute(sa.update(Lease).where(Lease.id == lease_id).values(told_ends_at=ends_at))
