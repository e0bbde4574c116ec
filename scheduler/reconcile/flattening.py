"""Stage: what leases at rest keep is measured, and made one layer again after many suspensions.

Each suspension lays one more layer over a lease's image, and an engine stacks some 125 at most. Making one of them
copies all of its files, so it is done while nobody waits for it. The image is called what the next run will look for:
whoever resumes finds it made, and if it is not finished by then makes the usual one, from the same container.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.drivers.protocol import (
    KEPT,
    LABEL_INSTALLATION,
    LABEL_LEASE,
    LABEL_ROLE,
    Engine,
    Lifecycle,
)
from leasing.errors import ContainerGone, DriverError, EngineDown
from leasing.service import events
from leasing.settings.scheduler import SchedulerSettings

log = logging.getLogger(__name__)
ACTOR = "reconciler"
CLAIM_SECONDS = 3600
DEEP = 100
"""An image of so many layers is made one again, however few of them are the lease's own."""

# A claim on a resting lease falls with its next move, as any does: then nothing is written of what was done.
TAKE = sa.text("""
    UPDATE lease SET claim_owner = 'flattening', claim_token = gen_random_uuid(),
        claim_until = now() + make_interval(secs => :seconds)
    WHERE id = (
        SELECT id FROM lease
        WHERE state = 'suspended' AND kept_node_id = :node AND kept_container IS NOT NULL AND kept_bytes IS NULL
            AND (claim_until IS NULL OR claim_until < now())
        ORDER BY suspended_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING id, claim_token, kept_container,
        (SELECT 1 + max(generation) FROM run WHERE run.lease_id = lease.id) AS generation
""")
DONE = sa.text("""
    UPDATE lease SET kept_bytes = :bytes, claim_owner = NULL, claim_token = NULL, claim_until = NULL
    WHERE id = :lease AND claim_token = :token RETURNING id
""")


@dataclass(frozen=True)
class _Resting:
    lease_id: UUID
    token: UUID
    container: str
    tag: str


def run_once(
    sessions: Sessions,
    engine: Lifecycle,
    facts: Engine,
    node_id: UUID,
    installation: str,
    settings: SchedulerSettings,
) -> int:
    """Look at each lease that has come to rest on one node since; how many. Raises `EngineDown`."""
    seen = 0
    while (one := _take(sessions, node_id, installation)) is not None:
        try:
            size = engine.written_bytes(one.container)
            flat = _flatten(engine, facts, one, size, installation, settings)
        except EngineDown:
            _write(sessions, one, None, flat=False)
            raise
        except ContainerGone:
            size, flat = 0, False
        _write(sessions, one, size, flat=flat)
        seen += 1
    return seen


def _take(sessions: Sessions, node_id: UUID, installation: str) -> _Resting | None:
    with sessions.begin() as session:
        row = session.execute(TAKE, {"node": node_id, "seconds": CLAIM_SECONDS}).one_or_none()
    if row is None:
        return None
    lease_id, token, container, generation = row
    return _Resting(lease_id, token, container, names.kept_image(installation, lease_id, generation))


def _flatten(
    engine: Lifecycle,
    facts: Engine,
    one: _Resting,
    size: int,
    installation: str,
    settings: SchedulerSettings,
) -> bool:
    """Whether its files, which take so much, were made one layer: only if they are worn, and there is room for it."""
    found = engine.inspect(one.container)
    image = engine.find_image(found.image) if found is not None else None
    if image is None or (image.commits + 1 < settings.flatten_after and image.layers < DEEP):
        return False
    free = facts.disk_free_bytes
    if free is not None and free < image.size_bytes + size + settings.disk_reserve_bytes:
        log.warning("too little disk to make files one layer lease=%s", one.lease_id)
        return False
    labels = {LABEL_INSTALLATION: installation, LABEL_ROLE: KEPT, LABEL_LEASE: str(one.lease_id)}
    try:
        engine.flatten(one.container, tag=one.tag, labels=labels)
    except (EngineDown, ContainerGone):
        raise
    except DriverError as error:
        log.warning("files stay in their layers lease=%s error=%s", one.lease_id, error)
        return False
    return True


def _write(sessions: Sessions, one: _Resting, size: int | None, *, flat: bool) -> None:
    values = {"lease": one.lease_id, "token": one.token, "bytes": size}
    with sessions.begin() as session:
        if session.execute(DONE, values).one_or_none() is not None and flat:
            message = "its files were made one layer again"
            events.record(session, "lease.flattened", message, actor=ACTOR, lease_id=one.lease_id)
