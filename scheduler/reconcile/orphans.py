"""Stage: containers and networks of this installation that no run and no suspended lease owns go, after a grace.

What a lost lease had and is found again waits for its retention before: see `found`.
"""

from __future__ import annotations

import logging
import time
from uuid import UUID

import sqlalchemy as sa

from leasing import names
from leasing.database import Sessions
from leasing.drivers.protocol import Lifecycle
from leasing.errors import DriverError, EngineDown
from leasing.model import Lease, Run, Warm
from leasing.service import events, exports
from leasing.states import LeaseState
from scheduler.reconcile import found

log = logging.getLogger(__name__)
ACTOR = "reconciler"


class Orphans:
    """Remembers since when each was seen without an owner: a start that is under way is never taken for one.

    Only what carries this installation's label is ever looked at.
    """

    def __init__(
        self, sessions: Sessions, installation: str, grace_seconds: float, lost_keep_days: float
    ) -> None:
        self._sessions = sessions
        self._installation = installation
        self._grace = grace_seconds
        self._lost_keep_days = lost_keep_days
        self._since: dict[tuple[UUID, str], float] = {}

    def run_once(self, engine: Lifecycle, node_id: UUID) -> list[str]:
        """The names of what was removed on that node. Raises `EngineDown`."""
        containers = {container.name for container in engine.containers(self._installation)}
        networks = set(engine.networks(self._installation))
        owned = self._owned(node_id)
        unowned = {(node_id, name) for name in (containers | networks) - owned}
        clock = time.monotonic()
        self._since = {
            key: since for key, since in self._since.items() if key[0] != node_id or key in unowned
        } | {key: self._since.get(key, clock) for key in unowned}
        removed = []
        # containers first: a network with one in it cannot go
        for _, name in sorted(unowned, key=lambda key: key[1] in networks):
            if clock - self._since[node_id, name] >= self._grace and self._remove(
                engine, name, container=name in containers, network=name in networks
            ):
                removed.append(name)
        if removed:
            self._record(node_id, removed)
        return removed

    def _owned(self, node_id: UUID) -> set[str]:
        with self._sessions() as session:
            runs = session.execute(
                sa.select(Run.lease_id, Run.generation).where(
                    Run.node_id == node_id, Run.released_at.is_(None)
                )
            )
            kept = session.execute(
                sa.select(Lease.kept_container).where(
                    Lease.kept_node_id == node_id, Lease.state != LeaseState.ENDED
                )
            ).scalars()
            warm = session.execute(sa.select(Warm.id).where(Warm.node_id == node_id)).scalars()
            ready = {names.warm(self._installation, one) for one in warm}
            sent = {names.export(self._installation, one) for one in exports.live(session)}
            # last: one that was open a moment ago, or kept, and has ended as lost since, is among them
            lost = found.containers(session, node_id, self._installation, self._lost_keep_days)
            return (
                ready
                | sent
                | lost.keys()
                | {name for name in kept if name is not None}
                | {
                    name
                    for lease_id, generation in runs
                    for name in (
                        names.container(self._installation, lease_id, generation),
                        names.network(self._installation, lease_id),
                    )
                }
            )

    def _remove(self, engine: Lifecycle, name: str, *, container: bool, network: bool) -> bool:
        """Whether it is gone: a sandbox's container and its network have one name."""
        try:
            if container:
                engine.remove(name, network=name if network else None)
            else:
                engine.remove_network(name)
        except EngineDown:
            raise
        except DriverError as error:
            log.warning("orphan resists name=%s error=%s", name, error)
            return False
        return True

    def _record(self, node_id: UUID, removed: list[str]) -> None:
        log.warning("orphans removed names=%s", ",".join(removed))
        with self._sessions.begin() as session:
            message = f"removed what no lease owned: {', '.join(removed)}"
            events.record(
                session, "node.orphans", message, actor=ACTOR, node_id=node_id, data={"names": removed}
            )
