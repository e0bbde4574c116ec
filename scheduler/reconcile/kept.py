"""Stage: what was kept for leases to go on with goes once it has served, or once its lease has ended.

Of a lease that ended as lost it may be found again, and waits for its retention before: see `found`.
"""

from __future__ import annotations

import logging
from uuid import UUID

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.drivers.protocol import Image, Lifecycle
from leasing.errors import DriverError, EngineDown
from leasing.model import Lease, Run
from leasing.states import LeaseState
from scheduler.reconcile import found

log = logging.getLogger(__name__)


def run_once(
    sessions: Sessions, engine: Lifecycle, node_id: UUID, installation: str, *, lost_keep_days: float
) -> list[str]:
    """Names of the containers and images that were removed from one node. Raises `EngineDown`.

    Rows say what is over, and an image goes only if no row wants it: so what a process that was killed left undone, or
    an engine that was away, is met again.
    """
    over = _over(sessions, node_id, lost_keep_days)
    removed = [name for lease_id, name in over if _end(sessions, engine, lease_id, name)]
    # The images are read before the rows: what was made since is in neither, what is wanted is in the second.
    images = [image for image in engine.images() if image.kept_by(installation)]
    if images:
        wanted = _wanted(sessions, installation, lost_keep_days)
        removed += [
            name for image in images for name in _unwanted(image, wanted) if _remove_image(engine, name)
        ]
    if removed:
        log.info("kept files removed node=%s names=%s", node_id, ",".join(removed))
    return removed


def _over(sessions: Sessions, node_id: UUID, lost_keep_days: float) -> list[tuple[UUID, str]]:
    """Leases that have ended, with the containers that are kept for them."""
    with sessions() as session:
        rows = session.execute(
            sa.select(Lease.id, Lease.kept_container).where(
                Lease.kept_node_id == node_id,
                Lease.kept_container.is_not(None),
                Lease.state == LeaseState.ENDED,
                ~found.lately(lost_keep_days),
            )
        )
        return [(lease_id, container) for lease_id, container in rows if container is not None]


def _end(sessions: Sessions, engine: Lifecycle, lease_id: UUID, container: str) -> bool:
    try:
        engine.remove(container, network=None)
    except EngineDown:
        raise
    except DriverError as error:
        log.warning("kept container resists name=%s error=%s", container, error)
        return False
    with sessions.begin() as session:
        session.execute(
            sa.update(Lease).where(Lease.id == lease_id).values(kept_node_id=None, kept_container=None)
        )
    return True


def _wanted(sessions: Sessions, installation: str, lost_keep_days: float) -> set[str]:
    """Images that live leases went on from, those that are made for them to go on from now, and those that they will
    go on from: see `flattening`. And those that leases went on from that were lost of late: see `found`."""
    with sessions() as session:
        live = session.execute(
            sa.select(Lease.kept_image).where(Lease.kept_image.is_not(None), Lease.state != LeaseState.ENDED)
        ).scalars()
        lost = session.execute(
            sa.select(Lease.kept_image).where(Lease.kept_image.is_not(None), found.lately(lost_keep_days))
        ).scalars()
        made = session.execute(
            sa.select(Run.lease_id, Run.generation)
            .join(Lease, Lease.id == Run.lease_id)
            .where(Run.released_at.is_(None), Lease.kept_container.is_not(None))
        )
        resting = session.execute(
            sa.select(Lease.id, sa.func.max(Run.generation) + 1)
            .join(Run, Run.lease_id == Lease.id)
            .where(
                Lease.kept_container.is_not(None),
                Lease.state.in_([LeaseState.SUSPENDED, LeaseState.QUEUED]),
            )
            .group_by(Lease.id)
        )
        return {image for image in [*live, *lost] if image is not None} | {
            names.kept_image(installation, lease_id, generation) for lease_id, generation in [*made, *resting]
        }


def _unwanted(image: Image, wanted: set[str]) -> list[str]:
    """What to call the image by to be rid of it; nothing if it is wanted. One without a tag is left of a commit that
    was cut short."""
    return [] if wanted & set(image.tags) else list(image.tags) or [image.id]


def _remove_image(engine: Lifecycle, name: str) -> bool:
    """Whether it is gone; one that a container still uses is met again."""
    try:
        return engine.remove_image(name)
    except EngineDown:
        raise
    except DriverError as error:
        log.warning("kept image resists name=%s error=%s", name, error)
        return False
