"""What is wanted to be ready on a node: sandboxes by how many starts there were, containers as admins say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.settings.warm import WarmSettings
from leasing.states import WarmRole

OPEN = sa.text("SELECT health = 'ready' AND intent = 'open' FROM node WHERE id = :node")
STARTS = sa.text("""
    SELECT count(*) FROM run WHERE node_id = :node AND placed_at > now() - make_interval(secs => :seconds)
""")
POOLS = sa.text("""
    SELECT image, gpu_model, max(count) AS count, cpus_millis, memory_bytes FROM warm_pool
    WHERE node_id IS NULL OR node_id = :node GROUP BY image, gpu_model, cpus_millis, memory_bytes ORDER BY image
""")
# One that nobody has, whole and sound; a container that waits on it keeps nobody from it.
FREE = sa.text("""
    SELECT device.id, device.uuid FROM device JOIN device_usage ON device_usage.device_id = device.id
    WHERE node_id = :node AND share = 1000 AND share_used = 0 AND health = 'ok' AND intent = 'open'
        AND quarantined_since IS NULL AND foreign_since IS NULL AND NOT mig_enabled
        AND model ILIKE '%' || :model || '%'
        AND NOT EXISTS (SELECT FROM warm WHERE device_id = device.id AND state IN ('making', 'ready'))
    ORDER BY index DESC
""")


@dataclass(frozen=True)
class FreeDevice:
    """One to bind a container to in advance."""

    id: UUID
    uuid: str


@dataclass(frozen=True)
class Wanted:
    """So many of a kind."""

    role: WarmRole
    count: int
    image: str | None = None
    cpus_millis: int = 0
    memory_bytes: int = 0
    bound: bool = False
    """Each to a device of its own."""
    devices: Sequence[FreeDevice] = ()

    @property
    def key(self) -> tuple[str, str | None, int, int, bool]:
        return self.role, self.image, self.cpus_millis, self.memory_bytes, self.bound


def wanted(
    session: Session, node_id: UUID, settings: WarmSettings, *, sandboxes: bool, low: bool
) -> list[Wanted]:
    """Nothing on a node that is closed or unreachable, or whose disk is `low`: what is there goes."""
    if low or not session.execute(OPEN, {"node": node_id}).scalar_one_or_none():
        return []
    count = 0
    if sandboxes and settings.sandboxes:
        starts = session.execute(STARTS, {"node": node_id, "seconds": settings.demand_seconds}).scalar_one()
        count = min(max(settings.sandboxes, settings.sandboxes_most), max(settings.sandboxes, starts))
    found = [Wanted(WarmRole.SANDBOX, count)]
    for image, model, count, cpus_millis, memory_bytes in session.execute(POOLS, {"node": node_id}):
        devices = (
            [FreeDevice(*row) for row in session.execute(FREE, {"node": node_id, "model": model})]
            if model
            else []
        )
        found.append(
            Wanted(WarmRole.WARM, count, image, cpus_millis, memory_bytes, model is not None, devices)
        )
    return found


def merged(asked: Sequence[Wanted], foreseen: Sequence[Wanted]) -> list[Wanted]:
    """What admins want counts where the forecast wants the same."""
    known = {wish.key for wish in asked}
    return [*asked, *(wish for wish in foreseen if wish.key not in known)]
