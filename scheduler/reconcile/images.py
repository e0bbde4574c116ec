"""Stage: when an engine's disk runs low, images that leases used long ago make room."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from leasing.database import Sessions, now
from leasing.drivers.protocol import KEPT, LABEL_ROLE, Engine, Lifecycle
from leasing.model import Run
from leasing.settings.scheduler import SchedulerSettings

log = logging.getLogger(__name__)


def run_once(
    sessions: Sessions, engine: Lifecycle, facts: Engine, node_id: UUID, settings: SchedulerSettings
) -> list[str]:
    """Ids of removed images: of those that only our leases brought, unused for the time set, oldest first, until there
    is twice the reserve. What is in use, by whomever, the engine itself refuses to remove."""
    enough = 2 * settings.disk_reserve_bytes
    if facts.disk_free_bytes is None or facts.disk_free_bytes >= enough:
        return []
    # the files of suspended leases go with their leases: see kept.py
    present = {
        image.id: image.size_bytes for image in engine.images() if image.labels.get(LABEL_ROLE) != KEPT
    }
    free, removed = facts.disk_free_bytes, []
    for image_id in _unused(sessions, node_id, settings):
        if free >= enough:
            break
        if image_id in present and engine.remove_image(image_id):
            free += present[image_id]
            removed.append(image_id)
            log.info("image removed to make room node=%s image=%s", node_id, image_id)
    return removed


def _unused(sessions: Sessions, node_id: UUID, settings: SchedulerSettings) -> list[str]:
    with sessions() as session:
        last = sa.func.max(sa.func.coalesce(Run.released_at, sa.func.now()))
        rows = session.execute(
            sa.select(Run.image_id)
            .where(Run.node_id == node_id, Run.image_id.is_not(None))
            .group_by(Run.image_id)
            .having(last < now(session) - timedelta(hours=settings.image_keep_hours))
            .having(sa.func.bool_and(Run.released_at.is_not(None)))
            .order_by(last)
        ).scalars()
        return [image_id for image_id in rows if image_id is not None]
